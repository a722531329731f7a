"""`examples/own-photos`: each error prints the line that its page shows, numbers aside."""

import re
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from spoiled_photos import misspell, rename_columns, truncate

EXAMPLE = Path(__file__).parents[2] / "examples" / "own-photos"
PAGE = (EXAMPLE / "README.md").read_text(encoding="utf-8")
QUICK = ("--preset", "quick")


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> Path:
    """The first twelve photographs of the example, and their table."""
    folder = tmp_path_factory.mktemp("own") / "mine"
    script = runpy.run_path(str(EXAMPLE / "draw.py"))
    script["main"].__globals__["NUM_PHOTOGRAPHS"] = 12
    script["main"](folder)
    return folder


def name_classes(folder: Path) -> None:
    misspell(folder)
    (folder / "classes.txt").write_text("disc\nring\nsquare\nstar\n")


def without_numbers(text: str) -> str:
    return re.sub("[0-9]+", "N", text)


def told(call: Callable, mine: Path, work: Path, name: str, spoil: Callable[[Path], None], *command: str):
    """The answer to a command about a spoiled copy of the set."""
    shutil.copytree(mine, work / name)
    spoil(work / name)
    return call(*command, cwd=work)


@pytest.mark.parametrize(
    ("name", "spoil", "command"),
    [
        ("gap", lambda folder: (folder / "photos/007.jpg").unlink(), ("train-cls", "gap", *QUICK)),
        ("slip", name_classes, ("train-cls", "slip", *QUICK)),
        ("cut", truncate, ("check", "cut")),
        (
            "named",
            rename_columns,
            ("train-cls", "named", *QUICK),
        ),
        ("other", lambda folder: None, ("check", "mien")),
    ],
    ids=["a missing photograph", "a misspelt tag", "a broken photograph", "other columns", "no such folder"],
)
def test_each_error_on_the_way_is_the_line_of_the_page(call, mine, tmp_path, name, spoil, command):
    answer = told(call, mine, tmp_path, name, spoil, *command)
    assert answer.code in (2, 7)
    assert answer.out == ""
    errors = [line for line in answer.err.splitlines() if line.startswith("mcis: error: ")]
    assert len(errors) == 1
    assert without_numbers(errors[0].replace(f"{tmp_path}/", "")) in without_numbers(PAGE).splitlines()


def test_a_misspelt_tag_is_wondered_at_where_no_classes_are_named(call, mine, tmp_path):
    answer = told(call, mine, tmp_path, "slip", misspell, "check", "slip")
    wondering = next(line for line in answer.err.splitlines() if "spelled nearly" in line)
    assert without_numbers(wondering) in without_numbers(PAGE).splitlines()
