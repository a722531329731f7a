"""Options that several commands share."""

import pytest
import typer

from mcis_cli.cli.options import numbers, run_options
from mcis_cli.config import RunOptions


def test_run_options_that_were_not_given_keep_their_defaults():
    assert run_options(device="cpu").workers == RunOptions().workers
    assert run_options(workers=0).workers == 0


def test_numbers_are_separated_by_commas():
    assert numbers("0.5,1,1.5") == (0.5, 1.0, 1.5)
    assert numbers(None) is None


def test_what_is_no_number_is_refused():
    with pytest.raises(typer.BadParameter, match="expected numbers and commas"):
        numbers("0.5;1")
