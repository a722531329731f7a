import json
import struct

import pytest
import torch
from safetensors.torch import save

from mcis_cli.data.tensor_files import SIZES, TORCH_DTYPES, read_safetensors_head
from mcis_cli.errors import DataError, WeightsError
from mcis_cli.training.initial_weights import load_initial_weights

NAMES = {dtype: getattr(torch, name) for dtype, name in TORCH_DTYPES.items()}


def packed(head, data: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_every_dtype_is_read_as_the_package_writes_it(tmp_path):
    assert SIZES.keys() == TORCH_DTYPES.keys()
    state = {name: torch.arange(6).reshape(2, 3).to(dtype) for name, dtype in NAMES.items()}
    state |= {"empty": torch.zeros(0, 3), "scalar": torch.tensor(1.5)}
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(state, {"format": "pt"}))
    read = load_initial_weights("vgg16", path).state
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor), name


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "0 bytes"),
        (struct.pack("<Q", 2**63) + bytes(100), "a head of 9,223,372,036,854,775,808 bytes"),
        (struct.pack("<Q", 2**25) + bytes(100), "a head of 33,554,432 bytes"),
        (packed(b"[]"), "no JSON object"),
        (packed(b"\xff"), "no JSON object"),
        (packed(b"[" * 100_000), "no JSON object"),
        (packed(b'{"a": 1, "a": 2}'), "names something twice"),
        (packed({"a": 1}), "a tensor listed as 1"),
        (packed({"a": entry(dtype="F4")}, bytes(8)), "a tensor listed as"),
        (packed({"a": entry(shape=(-2,))}, bytes(8)), "a tensor listed as"),
        (packed({"a": entry(shape=(2.0,))}, bytes(8)), "a tensor listed as"),
        (packed({"a": entry(shape=(True, 2))}, bytes(8)), "a tensor listed as"),
        (packed({"a": entry(shape=(2**40, 2**40), offsets=(0, 8))}, bytes(8)), "a tensor listed as"),
        (packed({"a": entry(shape=(1,) * 9, offsets=(0, 4))}, bytes(4)), "a tensor listed as"),
        (packed({"a": {**entry(), "more": 1}}, bytes(8)), "a tensor listed as"),
        (packed({"a": entry()}, bytes(9)), "bytes that belong to none"),
        (packed({"a": entry()}, bytes(7)), "bytes that belong to none"),
        (packed({"a": entry(), "b": entry()}, bytes(8)), "tensors that overlap"),
        (packed({"a": entry(offsets=(4, 12))}, bytes(12)), "bytes that belong to none"),
    ],
)
def test_other_bytes_are_refused(tmp_path, content, found):
    with pytest.raises(DataError, match=found):
        read_safetensors_head(content, "x.safetensors")
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=found):
        load_initial_weights("vgg16", path)
