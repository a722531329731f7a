"""Pages say what is so: generated ones are current, links lead somewhere, commands that are shown exist, and the
README's commands run, on a tiny set."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import generate
import pytest
from chains import shell
from image_sets import encode, photo, write
from saliency_models import redness

from mcis_cli.config import read_toml, resolve
from mcis_cli.data.synthetic import write_synthetic

ROOT = Path(__file__).parent.parent
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")})
EXAMPLES = sorted(ROOT.glob("examples/*/run.sh"))
SETTINGS = sorted(path.parent for path in ROOT.glob("examples/*/mcis.toml"))
EVERYWHERE = {"--help", "-h"}
NO_COMMANDS = {"mcis artifact 1", "mcis content", "mcis store 1"}  # texts of the file format


def names(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


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


def blocks(page: Path) -> list[str]:
    """The shell blocks of a page."""
    return re.findall(r"^```(?:sh|console)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shown_commands(page: Path) -> Iterator[list[str]]:
    """The words of each `mcis …` and `make …` that a page shows, in blocks and in lines of text."""
    inline = re.findall(r"`((?:mcis|make) [^`\n]+)`", page.read_text(encoding="utf-8"))
    for line in [*"\n".join(blocks(page)).replace("\\\n", " ").splitlines(), *inline]:
        if line not in NO_COMMANDS:
            yield from commands_in(line)


def commands_in(line: str) -> Iterator[list[str]]:
    """The words of each `mcis …` and `make …` in a line of shell."""
    for command in re.split(r"\||&&|;|\$\(|\)", line.split(" #")[0].removeprefix("$ ")):
        if command.split()[:1] in (["mcis"], ["make"]):
            yield shlex.split(re.sub("[\"']", "", command))


def unknown(words: list[str]) -> Iterator[str]:
    """Subcommands and options that do not exist."""
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        yield from (word for word in words[1:] if "=" not in word and word not in targets and word[0] != "-")
        return
    known = dict(generate.commands())
    if words[1].startswith("-") or words[1].isupper() or words[1][0].isdigit():  # a version, as `mcis env` tells
        return
    if words[1] not in known:
        yield words[1]
        return
    flags = generate.flags(known[words[1]]) | EVERYWHERE
    yield from (word for word in words[2:] if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in flags)


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_commands_that_are_shown_exist(page: Path):
    assert not [(" ".join(words), bad) for words in shown_commands(page) for bad in unknown(words)]


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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with everything that the README's commands name: a set of each layout, new photographs."""
    write_synthetic(tmp_path / "photos", num_train=12, num_val=4, num_classes=3, size=(48, 72), seed=0)
    shots = [encode(photo(seed, 48, 72), "JPEG") for seed in range(8)]
    rows = "".join(f"images/{number}.jpg,{'mug' if number % 2 else 'mug;pen'}\n" for number in range(8))
    write(tmp_path / "shop/tags.csv", f"image,tags\n{rows}")
    for number, shot in enumerate(shots):
        write(tmp_path / f"shop/images/{number}.jpg", shot)
        write(tmp_path / f"zoo/{'lion' if number % 2 else 'zebra'}/{number}.jpg", shot)
        write(tmp_path / f"holiday/{number}.jpg", shot)
    return tmp_path


@pytest.mark.slow
def test_the_commands_of_the_page_on_reports_run(chain_copy):
    ids = {"3fa8c1d2": chain_copy.made["train-seg"].id, "9be01f77": chain_copy.made["cams"].id}
    for block in blocks(ROOT / "docs/how-to/report.md"):
        script = "\n".join(
            line.removeprefix("$ ") for line in block.splitlines() if line.startswith(("mcis ", "$ mcis "))
        )
        for shown, content_id in ids.items():
            script = script.replace(shown, content_id)
        answer = shell(f"set -eu\n{script}", cwd=chain_copy.folder)
        assert answer.code == 0, f"{script}\n{answer.err}"
    assert {path.name for path in chain_copy.folder.glob("*.html")} == {"report.html", "maps.html", "two.html"}


@pytest.mark.slow
def test_the_commands_of_the_page_on_saliency_run(chain_copy):
    write(chain_copy.folder / "u2netp.onnx", redness())
    script = "\n".join(line for block in blocks(ROOT / "docs/how-to/saliency.md") for line in block.splitlines())
    ran = "\n".join(line.removeprefix("$ ") for line in script.splitlines() if line.startswith(("mcis ", "$ mcis ")))
    ran = ran.replace("b14e77a7ddb8", chain_copy.made["cams"].id)
    answer = shell(f"set -eu\n{ran}", cwd=chain_copy.folder, XDG_DATA_HOME=str(chain_copy.folder))
    assert answer.code == 0, answer.err
    assert len(list((chain_copy.folder / "maps").glob("*.png"))) == 22


@pytest.mark.slow
def test_the_commands_of_the_readme_run(folder: Path):
    ran = [block for block in blocks(ROOT / "README.md") if block.startswith("mcis ")]
    assert ran
    for block in ran:
        answer = shell(f"set -eu\n{block}", cwd=folder)
        assert answer.code == 0, f"{block}\n{answer.err}"
    assert len(list((folder / "masks").glob("*.png"))) == 16
