"""Run lengths of COCO: the same text as that of pycocotools, and nothing else is accepted as one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from mcis_cli.data.run_lengths import decode_rle, encode_rle

# pycocotools' own, with NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MASKS = arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))


@given(MASKS)
def test_the_text_is_that_of_pycocotools_and_back(mask):
    rle = encode_rle(mask)
    assert rle["counts"].encode() == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert (decode_rle(rle["counts"], *mask.shape) == mask).all()


def test_long_runs_take_several_characters():
    mask = np.zeros((700, 900), bool)
    mask[10:600, 30:800] = True
    assert (coco.decode(encode_rle(mask)) == mask).all()
    assert (decode_rle(encode_rle(mask)["counts"], 700, 900) == mask).all()


def test_numbers_go_down_the_columns():
    assert decode_rle([1, 2, 3], 2, 3).tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize(
    "counts",
    [
        *([], [5], [7], [3, -3, 6], [2**40, 6], ["6"], [True, 5], [6.0], [None]),
        *("", "7", "\u20ac", "o" * 100, "61o", "0" * 9, "PPPPPPPPPPPPPPPPPPPPP0"),
    ],
)
def test_what_does_not_count_the_pixels_is_none(counts):
    assert decode_rle(counts, 2, 3) is None
