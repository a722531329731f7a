"""Slots: copies with the bits and the layout of the originals, and a place that is never taken twice at a time."""

import ctypes
import gc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mcis_cli.stages.cams.slots import ALIGNMENT, Slots


def tensors(seed=0):
    """As a network leaves them: bfloat16 with channels together, and float32."""
    torch.manual_seed(seed)
    features = torch.randn(1, 6, 3, 5).to(torch.bfloat16, memory_format=torch.channels_last)[0]
    return [features, torch.randn(7, 3, 5)]


def test_copies_have_bits_and_layout_of_the_originals():
    originals = tensors()
    for copy, original in zip(Slots().keep(originals).tensors(), originals, strict=True):
        assert torch.equal(copy, original)
        assert (copy.dtype, copy.shape, copy.stride()) == (original.dtype, original.shape, original.stride())
        assert copy.data_ptr() % ALIGNMENT == 0
        assert copy.data_ptr() != original.data_ptr()


def test_a_place_is_taken_again_once_nothing_of_it_is_left():
    slots = Slots()
    first, other = slots.keep(tensors()).tensors(), slots.keep(tensors()).tensors()
    places = {first[0].data_ptr(), other[0].data_ptr()}
    assert len(places) == 2
    view = first[1][2:4]
    del first
    gc.collect()
    held = slots.keep(tensors()).tensors()
    assert held[0].data_ptr() not in places  # a view of the first is still in use
    del view
    gc.collect()
    assert slots.keep(tensors()).tensors()[0].data_ptr() in places


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=30))
def test_what_is_held_is_never_written_over(steps):
    """Keep and drop tensors of several sizes in any order."""
    slots, held = Slots(), {}
    for name, size in steps:
        original = torch.full((size,), float(len(held) + 10 * name))
        held[name] = (original, *slots.keep([original]).tensors())
        assert all(torch.equal(copy, original) for original, copy in held.values())


def test_many_small_ones_share_a_block():
    slots = Slots()
    held = [slots.keep([torch.zeros(100)]) for _ in range(1000)]
    starts = sorted(kept.tensors()[0].data_ptr() for kept in held)
    assert starts[-1] - starts[0] == 999 * 448  # 400 bytes, rounded up to whole lines of 64


class _Usage(ctypes.Structure):
    """What glibc tells of its heap."""

    _fields_ = (
        *tuple((f"field_{place}", ctypes.c_size_t) for place in range(7)),
        ("in_use", ctypes.c_size_t),
        ("free", ctypes.c_size_t),
        ("at_the_end", ctypes.c_size_t),
    )


def in_use():
    usage = ctypes.CDLL(None).mallinfo2
    usage.restype = _Usage
    return usage().in_use


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="asks glibc 2.33 or later")
def test_what_is_kept_takes_nothing_of_the_heap():
    slots, originals = Slots(), tensors()
    held = [slots.keep(originals) for _ in range(1000)]
    before = in_use()
    held += [slots.keep(originals) for _ in range(1000)]
    assert in_use() - before < 1000 * 64  # as tensors they would take some hundred bytes each
