"""Several processes that train together: they do what one would with a batch as large as theirs together, the same
bits each time, and one that dies takes the others along, and nothing that was done.
"""

from pathlib import Path

import pytest
import ranked
import torch
from ranked import CASES, Torchrun, gradients

from mcis_cli.training.ranks import Ranks

ROOT = str(Path(__file__).parent.parent)


@pytest.fixture(scope="module")
def of_two(chain, tmp_path_factory):
    """The gradients of each case, of two ranks with a batch of two, as each rank has them."""
    folder = tmp_path_factory.mktemp("gradients")
    answer = Torchrun(ranked.__file__, chain.folder, folder, cwd=folder, PYTHONPATH=ROOT).finish()
    assert answer.code == 0, answer.err
    assert answer.out == ""
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_averaged_gradients_are_those_of_one_process_at_double_batch(chain, of_two, case):
    """Also of the last step, in which one image is left for both."""
    expected = gradients(chain, case, 4)
    assert len(expected) == 4
    for number in range(2):
        found = of_two[number][case]
        assert len(found) == len(expected)
        for there, here in zip(found, expected, strict=True):
            assert len(there) == len(here)
            for tensor, wanted in zip(there, here, strict=True):
                torch.testing.assert_close(tensor, wanted, rtol=0, atol=1e-6 * max(1e-3, float(wanted.abs().max())))


@pytest.mark.parametrize("length", range(9))
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_parts_of_a_step_are_all_of_it_and_even(length, count):
    parts = [Ranks(number, count).part(list(range(length))) for number in range(count)]
    assert [item for part in parts for item in part] == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
