"""The functions that the pages name for the equations of the paper are those that training and `cams` execute."""

import importlib
import re
import sys
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from tiny_chain import options

from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.train_cls import run as train_cls
from mcis_cli.store import open_store

ROOT = Path(__file__).parents[2]
ELSEWHERE = {  # what the pages name beside a step of training and maps of random references
    "data/reading.py:read_catalogue",
    "data/references.py:nearest_references",
    "stages/pseudo/fusing.py:make_mask",
    "interop/saliency/run.py:run",
}


def code_of(module: str, name: str) -> CodeType | None:
    """The code of a function, a method, a property, or how a class is made; None for a module's data."""
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = found.__dict__[part] if isinstance(found, type) else getattr(found, part)
    if isinstance(found, property):
        found = found.fget
    if isinstance(found, type):
        found = found.__dict__.get("__init__", found.__init__)
    while hasattr(found, "__wrapped__"):  # checked for shapes in tests
        found = found.__wrapped__
    return found.__code__ if isinstance(found, FunctionType) else None


def table_of_equations() -> list[list[str]]:
    text = (ROOT / "docs/explanation/co-attention.md").read_text(encoding="utf-8")
    rows = text[text.index("| Eq. |") : text.index("All functions are in `mcis_cli.models`")].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("|")]


def named(cell: str) -> set[tuple[str, str]]:
    """Modules and names below them, of a cell such as `losses.basic_loss`."""
    homes = {"CoAttentionClassifier": "classifier", "PairLoss": "losses"}
    found = set()
    for first, second in re.findall(r"`(\w+)\.(\w+)`", cell):
        module = homes.get(first, first)
        found.add((f"mcis_cli.models.{module}", f"{first}.{second}" if first in homes else second))
    return found


def of_the_paper_map() -> set[tuple[str, str]]:
    """Modules and names of §3.1 and §3.2."""
    text = (ROOT / "docs/reference/paper-map.md").read_text(encoding="utf-8")
    sections = text[text.index("## §3.1") : text.index("## §3.3")]
    names = set(re.findall(r"`([\w/]+\.py:[\w.]+)`", sections)) - ELSEWHERE
    pairs = (name.split(".py:") for name in names if not name.startswith("maps/"))
    return {(f"mcis_cli.{path.replace('/', '.')}", name) for path, name in pairs}


@pytest.fixture(scope="module")
def entered(chain, tmp_path_factory):
    """The code that one epoch of training and one pass of `cams` execute."""
    codes: set[CodeType] = set()

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            codes.add(frame.f_code)

    store = open_store(tmp_path_factory.mktemp("traced") / ".mcis")
    changed = {"train-cls": {"loss": "full"}, "cams": {"with_contrastive": True}}
    settings = chain.settings(**changed)
    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        classifier = train_cls.run(settings.train_cls, Inputs(data=chain.data), store, options())
        cams.run(settings.cams, Inputs(upstream=classifier, data=chain.data), store, options())
    finally:
        sys.setprofile(before)
    return codes


@pytest.mark.slow
def test_what_the_page_of_equations_says_runs_is_executed(entered):
    rows = table_of_equations()
    assert {row[0] for row in rows} >= {str(number) for number in range(1, 11)}
    running = set().union(*(named(row[2]) for row in rows))
    assert all(named(row[2]) for row in rows)
    assert [name for name in sorted(running) if code_of(*name) not in entered] == []


def test_definitions_are_apart_and_nothing_executes_them(entered):
    definitions = set().union(*(named(row[3]) for row in table_of_equations()))
    assert {module for module, _ in definitions} == {"mcis_cli.models.reference"}
    assert [name for name in sorted(definitions) if code_of(*name) in entered] == []


def test_what_the_map_of_the_paper_names_for_classifier_and_maps_is_executed(entered):
    names = {name for name in of_the_paper_map() if name[0] != "mcis_cli.models.reference"}
    assert len(names) > 20
    codes = {name: code_of(*name) for name in names}
    assert [name for name, code in sorted(codes.items()) if code is not None and code not in entered] == []
