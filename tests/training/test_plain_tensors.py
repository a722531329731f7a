"""Files of safetensors: what is in them is read, and anything else is refused before memory is allocated for it."""

import json
import struct

import pytest
import torch
from safetensors.torch import save

from mcis_cli.errors import WeightsError
from mcis_cli.training.initial_weights import load_initial_weights
from mcis_cli.training.plain_tensors import DTYPES


def packed(head, data: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_every_dtype_is_read_in_the_order_of_names(tmp_path):
    state = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES}
    state |= {"empty": torch.zeros(0, 3), "scalar": torch.tensor(1.5)}
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(state, {"format": "pt"}))
    read = load_initial_weights("vgg16", path).state
    assert list(read) == sorted(state)
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor), name


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "header too small"),
        (struct.pack("<Q", 2**63) + bytes(100), "a head of more than 16,777,216 bytes"),
        (struct.pack("<Q", 2**24) + bytes(100), "invalid header length"),
        (packed(b"[]"), "invalid JSON"),
        (packed(b"\xff"), "invalid UTF-8"),
        (packed(b"[" * 100_000), "invalid JSON"),
        (packed({"a": 1}), "invalid JSON"),
        (packed({"a": entry(dtype="F4")}, bytes(8)), "invalid shape, data type"),
        (packed({"a": entry(dtype="F8_E8M0", shape=(8,))}, bytes(8)), "F8_E8M0"),
        (packed({"a": entry(dtype="C64", shape=(1,))}, bytes(8)), "values of torch.complex64"),
        (packed({"a": entry(shape=(-2,))}, bytes(8)), "invalid JSON"),
        (packed({"a": entry(shape=(2.0,))}, bytes(8)), "invalid JSON"),
        (packed({"a": entry(shape=(True, 2))}, bytes(8)), "invalid JSON"),
        (packed({"a": entry(shape=(2**40, 2**40), offsets=(0, 8))}, bytes(8)), "overflow"),
        (packed({"a": entry(shape=(1,) * 9, offsets=(0, 4))}, bytes(4)), "a tensor of 9 dimensions"),
        (packed({"a": entry()}, bytes(9)), "file not fully covered"),
        (packed({"a": entry()}, bytes(7)), "file not fully covered"),
        (packed({"a": entry(), "b": entry()}, bytes(8)), "invalid offset"),
        (packed({"a": entry(offsets=(4, 12))}, bytes(12)), "invalid offset"),
        (packed({f"{n}": entry("U8", (0,), (0, 0)) for n in range(100_001)}), "found a dict"),
    ],
)
def test_other_bytes_are_refused_in_one_line(tmp_path, content, found):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=found) as error:
        load_initial_weights("vgg16", path)
    assert "\n" not in str(error.value)


def test_a_name_in_a_message_is_escaped(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed({"\x1b[31m\n": entry(offsets=(4, 12))}, bytes(12)))
    with pytest.raises(WeightsError, match=r"x1b\[31m") as error:
        load_initial_weights("vgg16", path)
    assert str(error.value).isprintable()
