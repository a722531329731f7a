"""The size and the shape of the package in figures: a place to look, never a limit.

`make figures` prints them; `--all` lists what each figure counts.

Functions that declare are not counted by their parameters: constructors, which in networks are flat and keyword-only.

A name of a stage counts where it is written as a text outside the stage's own room, the list of stages, presets and
the commands of the pipeline. The same words also name sections of the settings, and two of them are values of settings.
These do not count: everything in `config/`, which knows no stages, and in `data/layouts/`, where "eval" is a folder of
others; keys of tables of settings; arguments of `SectionFlags`; and a value in an expression that names its setting, as
in `config.background == "affinity"`.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mcis_cli"
MAX_PARAMETERS = 8
STAGE_ROOMS = {  # where the name of a stage may be written: its own room
    "train-cls": "stages/train_cls",
    "cams": "stages/cams",
    "affinity": "stages/affinity",
    "affinity-labels": "stages/affinity",
    "affinity-net": "stages/affinity",
    "pseudo": "stages/pseudo",
    "train-seg": "stages/train_seg",
    "eval": "stages/evaluate",
}
# Lists: of the public names, of the stages, of the commands in the help.
ALL_STAGES = ("__init__.py", "stages/__init__.py", "stages/stage.py", "cli/command_list.py")
OTHER_NAMES = ("config/", "data/layouts/")
VALUES = {"affinity": {"background", "backgrounds"}, "pseudo": {"supervision"}}  # of which settings, and their names
COMMAND_FILES = tuple(
    f"cli/commands/{name}.py" for name in ("pipeline", "train", "photographs", "affinity", "masks", "evaluate")
)


def trees() -> dict[str, ast.Module]:
    """The syntax of each file of the package, by its path in there."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {file.relative_to(PACKAGE).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def num_lines(path: str) -> int:
    """Lines of a file, blank ones and comments as well."""
    return len((PACKAGE / path).read_text(encoding="utf-8").splitlines())


def num_code_lines(path: str, tree: ast.Module) -> int:
    """Lines of a file without docstrings, imports, comments and blank ones."""
    left_out: set[int] = set()
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            left_out.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate((PACKAGE / path).read_text(encoding="utf-8").splitlines(), start=1)
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") for number, line in lines if number not in left_out
    )


def imports_across(trees: dict[str, ast.Module], folder: str) -> list[tuple[str, str]]:
    """The imports of one room of a folder by a file of another; a file of the folder itself is in the room `.`."""
    found = set()
    for path, tree in trees.items():
        if not path.startswith(f"{folder}/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for target in [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]:
                    imported = target.removeprefix("mcis_cli.").replace(".", "/")
                    if f"{imported}.py" in trees or f"{imported}/__init__.py" in trees:
                        found.add((path, imported if f"{imported}.py" in trees else f"{imported}/__init__"))
    inside = [(path, other) for path, other in sorted(found) if other.startswith(f"{folder}/")]
    return [(path, other) for path, other in inside if room(path, folder) != room(other, folder)]


def room(path: str, folder: str) -> str:
    """The folder in a folder that a file lies in."""
    parts = path.removeprefix(f"{folder}/").split("/")
    return parts[0] if len(parts) > 1 else "."


def functions(trees: dict[str, ast.Module]) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Each function with the path of its file."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def num_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters without `self` and `cls`."""
    parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(parameter.arg not in ("self", "cls") for parameter in parameters)


def stage_literals(trees: dict[str, ast.Module]) -> list[str]:
    """Where the name of a stage is written as a text; see the head of this file."""
    found = []
    for path, tree in trees.items():
        if path.startswith(OTHER_NAMES) or path in (*ALL_STAGES, *COMMAND_FILES):
            continue
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in STAGE_ROOMS:
                own = path.startswith(f"{STAGE_ROOMS[node.value]}/")
                if not own and not is_section(node, parents) and not is_value(node, parents):
                    found.append(f"mcis_cli/{path}:{node.lineno}: {node.value!r}")
    return found


def is_section(word: ast.Constant, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether a word names a section of the settings."""
    parent = parents[word]
    match parent:
        case ast.Dict():  # {"train-cls": {"backbone": ...}}
            return any(
                key is word and isinstance(value, ast.Dict)
                for key, value in zip(parent.keys, parent.values, strict=True)
            )
        case ast.Subscript():  # flags.tables["eval"], tables["eval"]["crf"]
            return getattr(parent.value, "attr", "") == "tables" or isinstance(parents[parent], ast.Subscript)
        case ast.Call(func=ast.Name(id="SectionFlags")):
            return True
        case ast.Call(func=ast.Attribute(attr="get", value=ast.Attribute(attr="tables" | "named"))):
            return True
    return False


def is_value(word: ast.Constant, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Whether a word is the value of a setting that is named beside it."""
    node: ast.AST = word
    while isinstance(parents[node], ast.expr | ast.comprehension | ast.keyword):
        node = parents[node]
    whole = parents[node] if isinstance(parents[node], ast.Assign | ast.AnnAssign) else node
    named = {getattr(part, attribute, None) for part in ast.walk(whole) for attribute in ("id", "attr", "arg", "value")}
    return bool(VALUES.get(str(word.value), set()) & {name.lower() for name in named if isinstance(name, str)})


def main(*, everything: bool = False) -> None:
    """Print the figures."""
    parsed = trees()
    longest = sorted(((f.end_lineno or 0) - f.lineno + 1, path, f.name) for path, f in functions(parsed))[:-6:-1]
    others = [(num_parameters(f), path, f.name) for path, f in functions(parsed) if f.name != "__init__"]
    many = [one for one in others if one[0] > MAX_PARAMETERS]
    literals = stage_literals(parsed)
    tests = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in (ROOT / "tests").rglob("*.py"))
    rows: list[tuple[str, int, str, list[str]]] = [
        ("lines of the package", sum(map(num_lines, parsed)), "24,000", []),
        ("lines of code in it", sum(num_code_lines(path, tree) for path, tree in parsed.items()), "", []),
        ("files of the package", len(parsed), "150", []),
        ("lines of the tests", tests, "", []),
    ]
    for folder in ("stages", "cli"):
        found = imports_across(parsed, folder)
        arrows = sorted({(room(path, folder), room(other, folder)) for path, other in found})
        listed = [f"{source} -> {target}" for source, target in arrows]
        rows.append((f"rooms of {folder}/ that import another", len(arrows), "20", listed))
        listed = [f"{path} -> {other}" for path, other in found]
        rows.append((f"imports between rooms of {folder}/", len(found), "", listed))
    rows += [
        ("lines of the longest function", longest[0][0], "50", [f"{n} lines: {p}: {f}" for n, p, f in longest]),
        (f"functions of more than {MAX_PARAMETERS} parameters", len(many), "0", [f"{n}: {p}: {f}" for n, p, f in many]),
        ("names of stages written elsewhere", len(literals), "0", literals),
    ]
    for name, value, aim, listed in rows:
        sys.stdout.write(f"{name:<42} {value:>8,}{f'   (aim: {aim} at most)' if aim else ''}\n")
        sys.stdout.writelines(f"    {line}\n" for line in listed if everything)


if __name__ == "__main__":
    main(everything="--all" in sys.argv[1:])
