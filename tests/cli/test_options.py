"""Options that several commands share."""

import pytest
import typer

from mcis_cli.cli.session.options import numbers, parse_shard, run_options
from mcis_cli.config import RunOptions, parse_assignment, resolve
from mcis_cli.errors import UsageError


def test_run_options_that_were_not_given_keep_their_defaults():
    assert run_options(device="cpu").workers == RunOptions().workers
    assert run_options(workers=0).workers == 0


def test_numbers_are_separated_by_commas():
    assert numbers("0.5,1,1.5") == (0.5, 1.0, 1.5)
    assert numbers(None) is None


def test_what_is_no_number_is_refused():
    with pytest.raises(typer.BadParameter, match="expected numbers and commas"):
        numbers("0.5;1")


@pytest.mark.parametrize("parse", [numbers, parse_shard, parse_assignment, lambda text: resolve({"preset": text})])
def test_what_was_typed_is_repeated_in_part_where_it_is_long(parse):
    """Found by fuzzing: an argument of four thousand letters was an error of as many."""
    with pytest.raises((UsageError, typer.BadParameter)) as error:
        parse("x" * 4000)
    assert len(str(error.value)) < 300
