"""Every fuzz target on some mutants of its seeds: it may refuse them, in one line, and do nothing else."""

from pathlib import Path

import pytest
from sizes import size

from fuzz.harness import mutate
from fuzz.targets import TARGETS
from mcis_cli.errors import McisError

pytestmark = [pytest.mark.promise, pytest.mark.filterwarnings("ignore")]

NUM_INPUTS = size(500, 100_000)


@pytest.mark.parametrize("name", TARGETS)
def test_mutants_are_refused_or_understood(name):
    assert mutate(*TARGETS[name], count=NUM_INPUTS, seed=1) == NUM_INPUTS


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_understood(name):
    """Else their mutants would be refused at the door, and nothing behind it tried."""
    refused: dict[int, str] = {}
    for number, seed in enumerate(TARGETS[name].seeds):
        try:
            TARGETS[name].target(seed)
        except McisError as error:
            refused[number] = str(error)
    assert set(refused) == REFUSED.get(name, set()), refused


# A block without a manifest, a compressed member, arrays that are no maps, a DOCTYPE, a preset that is a table.
REFUSED = {"user_block": {1}, "zip": {1}, "maps": {1, 2}, "voc_xml": {1}, "assignment": {3}}


def test_the_page_lists_every_target():
    page = (Path(__file__).parents[2] / "docs/how-to/fuzz.md").read_text(encoding="utf-8")
    assert f"expected one of {', '.join(TARGETS)}\n" in page


def test_a_target_that_fails_is_noticed(capsys):
    def target(data: bytes) -> None:
        assert b"7" not in data

    with pytest.raises(AssertionError):
        mutate(target, [b"1234"], count=100_000)
    assert "input " in capsys.readouterr().err
