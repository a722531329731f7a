"""Pages say what is so: generated ones are current, links lead somewhere, and commands that are shown are understood.

`test_page_commands.py` runs them.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import generate
import pytest
import typer
from shown_commands import PAGES, ROOT, commands_in, names, shown_commands

from mcis_cli.cli.app import app
from mcis_cli.config import read_toml, resolve
from mcis_cli.errors import McisError

EXAMPLES = sorted(ROOT.glob("examples/*/run.sh"))
SETTINGS = sorted(path.parent for path in ROOT.glob("examples/*/mcis.toml"))
EVERYWHERE = {"--help", "-h"}
COMMAND = typer.main.get_command(app)
FUNCTIONS = dict(generate.commands())
# What a command prints in an empty folder after it has read its arguments.
NOTHING_THERE = re.compile(
    "does not exist|no (artifact|store) |no images are named|found no file|found No such file|"
    "has no artifacts to report on yet|needs images with ground truth|no training with a"
)
# What is no call, but a name in a line of text.
NAMES_ALONE = re.compile(
    "Missing argument|requires an argument|choose one (format|kind of import)|nothing is selected|no table is named"
)


@pytest.mark.parametrize("page", generate.pages(), ids=lambda path: path.name)
def test_generated_pages_are_current(page: Path):
    assert page.read_text(encoding="utf-8") == generate.pages()[page], "stale: run `make docs`"


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^()\s]+)\)", re.sub(r"`[^`\n]+`", "", text)):
        file, _, anchor = link.partition("#")
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        target = (page.parent / file) if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_somewhere(page: Path):
    assert not list(broken_links(page))


@pytest.mark.parametrize("words", ["offline", "threshold", "own data"])
def test_a_heading_has_the_words_that_people_search_for(words: str):
    """The site's search puts pages and sections with such a title first."""
    headings = [re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE) for page in PAGES]
    assert any(words in heading.lower() for of_page in headings for heading in of_page)


def test_contents_list_every_page():
    contents = ROOT / "docs/README.md"
    links = re.findall(r"\]\(([^)#:]+\.md)\)", contents.read_text(encoding="utf-8"))
    listed = [(contents.parent / link).resolve() for link in links]
    assert len(listed) == len(set(listed)), "a page is in one list, once"
    assert set(PAGES) - set(listed) == {contents, ROOT / "README.md"}


NAMED = re.compile(r"`([\w/]+\.py):([\w.]+)`")


def absent_names(page: Path) -> Iterator[str]:
    """The functions, classes and constants that a page names, as in `data/pairs.py:sample_pairs`, and that are not."""
    for file, name in NAMED.findall(page.read_text(encoding="utf-8").replace("\n", " ")):
        path = ROOT / "mcis_cli" / file
        body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
        for part in name.split("."):
            found = [one for one in body if part in defined(one)]
            if not found:
                yield f"{file}:{name}"
                break
            body = getattr(found[0], "body", [])


def defined(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module or a class gives."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else getattr(statement, "targets", [])
    return {target.id for target in targets if isinstance(target, ast.Name)}


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_functions_that_are_named_exist(page: Path):
    assert not list(absent_names(page))


def test_the_map_of_the_paper_names_every_equation_and_a_name_that_is_not_is_found(tmp_path):
    text = (ROOT / "docs/reference/paper-map.md").read_text(encoding="utf-8")
    assert all(f"Eq. {number}:" in text for number in range(1, 11))
    assert len(NAMED.findall(text)) > 40
    (tmp_path / "page.md").write_text(
        "`maps/crf.py:dense_crf`, `maps/crf.py:thick_crf`, `maps/crt.py:x`, `maps/metrics.py:"
        "ConfusionMatrix.iou`, `maps/metrics.py:ConfusionMatrix.you`"
    )
    assert list(absent_names(tmp_path / "page.md")) == [
        "maps/crf.py:thick_crf",
        "maps/crt.py:x",
        "maps/metrics.py:ConfusionMatrix.you",
    ]


@cache
def flags_of(command: str) -> set[str]:
    """The options that a command takes."""
    return generate.flags(FUNCTIONS[command])


def unknown(words: list[str]) -> Iterator[str]:
    """Subcommands and options that do not exist."""
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        yield from (word for word in words[1:] if "=" not in word and word not in targets and word[0] != "-")
        return
    if words[1].startswith("-") or words[1].isupper() or words[1][0].isdigit():  # a version, as `mcis env` prints it
        return
    if words[1] not in FUNCTIONS:
        yield words[1]
        return
    flags = flags_of(words[1]) | EVERYWHERE
    yield from (word for word in words[2:] if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in flags)


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_commands_that_are_shown_exist(page: Path):
    assert not [(" ".join(words), bad) for words in shown_commands(page) for bad in unknown(words)]


@cache  # half of the commands are shown on several pages
def misunderstood(*words: str) -> str | None:
    """The complaint of a command about its arguments, in a folder that holds nothing to work on."""
    try:
        COMMAND([*words[1:]], prog_name="mcis", standalone_mode=False)
    except McisError as error:
        told = str(error)
    except Exception as error:
        told = str(getattr(error, "message", error))
    else:
        return None
    placeholders = [word for word in words if re.fullmatch("[A-Z]+", word)]
    if NOTHING_THERE.search(told) or any(f"'{word}'" in told for word in placeholders):
        return None
    return None if NAMES_ALONE.search(told) else told


def is_harmless(words: list[str]) -> bool:
    """Whether a command does nothing in an empty folder, and asks no server."""
    if any("://" in word for word in words):
        return False
    return words[0] == "mcis" and words[1] in FUNCTIONS and words[1] not in ("demo", "env")


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_commands_that_are_shown_are_understood(page: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {" ".join(words): misunderstood(*words) for words in shown_commands(page) if is_harmless(words)}
    assert not {command: told for command, told in found.items() if told}


def test_what_is_not_understood_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "'thick'" in str(misunderstood("mcis", "train-cls", "photos", "--loss", "thick"))
    assert "-2" in str(misunderstood("mcis", "cams", "--set", "cams.image_size=-2"))
    assert "bacground" in str(misunderstood("mcis", "pseudo", "--set", "pseudo.bacground=constant"))
    assert "'1;2'" in str(misunderstood("mcis", "eval", "--scales", "1;2"))
    assert "nine" in str(misunderstood("mcis", "run", "nine"))


@pytest.mark.parametrize("script", EXAMPLES, ids=names(EXAMPLES))
def test_commands_of_the_examples_exist(script: Path):
    lines = script.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found = [words for line in lines if not line.startswith("#") for words in commands_in(line.strip())]
    assert not [(" ".join(words), bad) for words in found for bad in unknown(words)]


@pytest.mark.parametrize("folder", SETTINGS, ids=names(SETTINGS))
def test_settings_of_the_examples_are_understood_and_told(folder: Path):
    resolve(read_toml(folder / "mcis.toml"))
    told = (folder / "run.sh").read_text(encoding="utf-8")
    assert all(word in told for word in ("# Published", "# Hardware", "# Expected time"))
    assert f"]({folder.name}/run.sh)" in (ROOT / "examples/README.md").read_text(encoding="utf-8")


def test_what_does_not_exist_is_found():
    assert list(unknown(["mcis", "cams", "--refs", "3", "--references", "3", "-q"])) == ["--references"]
    assert list(unknown(["mcis", "camps"])) == ["camps"]
    assert list(unknown(["make", "demo", "PYTHON=python3.12", "tea"])) == ["tea"]


# Messages that are mostly what was found and expected.
FEW_WORDS_OF_OURS = (
    "mask value 9; expected 0 to 3 (3 classes) or 255; correct the mask or the classes",
    "warning: --foreground-threshold has no effect with --background otsu",
    "train-cls.lr = -1 is not accepted: expected greater than 0",
    "mcis: bug: …",
)


def quoted(page: Path) -> Iterator[str]:
    """What a page quotes as printed, each in one line; a sentence is a symptom in the words of people."""
    for block in re.findall(r"(?:^> .*\n)+", page.read_text(encoding="utf-8"), re.MULTILINE):
        text = " ".join(line.removeprefix("> ") for line in block.splitlines()).replace("`", "")
        if not re.fullmatch(r"[A-Z].*\.", text):
            yield text


def literals() -> Iterator[re.Pattern[str]]:
    """The texts of the sources, with anything where a value is put in."""
    for source in sorted((ROOT / "mcis_cli").rglob("*.py")):
        tree = ast.parse(source.read_text(encoding="utf-8"))
        filled = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        parts = {id(part) for node in filled for part in node.values}
        plain = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in parts]
        for node in [*filled, *plain]:
            values = [
                part.value if isinstance(part, ast.Constant) else None for part in getattr(node, "values", [node])
            ]
            texts = [value.replace("`", "") if isinstance(value, str) else None for value in values]
            if " " in (spelled := "".join(text or "\0" for text in texts).strip("\0")) and len(spelled) > 12:
                yield re.compile(".{0,120}?".join(map(re.escape, spelled.split("\0"))))


def test_messages_that_are_explained_are_still_said():
    patterns = list(literals())
    stale = []
    for text in quoted(ROOT / "docs/how-to/troubleshooting.md"):
        said = {place for pattern in patterns for found in pattern.finditer(text) for place in range(*found.span())}
        if len(said) < 0.6 * len(text) and text not in FEW_WORDS_OF_OURS:
            stale.append(text)
    assert not stale
