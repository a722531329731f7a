"""Kept tensors: copies with the bits and the layout of the originals, which leave the heap alone."""

import ctypes
import gc

import pytest
import torch

from mcis_cli.stages.engine.kept import ALIGNMENT, Kept


def tensors(seed=0):
    """As a network leaves them: bfloat16 with channels together, and float32."""
    torch.manual_seed(seed)
    features = torch.randn(1, 6, 3, 5).to(torch.bfloat16, memory_format=torch.channels_last)[0]
    return [features, torch.randn(7, 3, 5)]


def test_copies_have_bits_and_layout_of_the_originals():
    originals = tensors()
    for copy, original in zip(Kept.of(originals).distinct(), originals, strict=True):
        assert torch.equal(copy, original)
        assert (copy.dtype, copy.shape, copy.stride()) == (original.dtype, original.shape, original.stride())
        assert copy.data_ptr() % ALIGNMENT == 0
        assert copy.data_ptr() != original.data_ptr()


def test_tensors_hold_their_memory_when_nothing_else_does():
    originals = tensors()
    held = Kept.of(originals).distinct()[1][2:4]
    gc.collect()
    others = [Kept.of(tensors(seed)) for seed in range(20, 60)]
    assert torch.equal(held, originals[1][2:4])
    assert len(others) == 40


class _Usage(ctypes.Structure):
    """What glibc reports about its heap."""

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
    originals = tensors()
    held = [Kept.of(originals) for _ in range(1000)]
    before = in_use()
    held += [Kept.of(originals) for _ in range(1000)]
    assert in_use() - before < 1000 * 64  # as tensors they would take some hundred bytes each
