"""Checks of untrusted files of tensors: plain, finite tensors, no larger than their storage."""

from typing import BinaryIO

import torch
from torch import Tensor

from mcis_cli.data.archives import open_archive
from mcis_cli.errors import DataError

DTYPES = frozenset(
    {torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32}
    | {torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64}
)
MAX_RANK = 8
MAX_HEAD = 2**24  # bytes of the head of a safetensors file: each of its tensors becomes an object


def tensor_fault(tensor: object) -> str | None:
    """Why something is not a valid tensor, or None."""
    if not isinstance(tensor, Tensor):
        return f"a {type(tensor).__name__}"
    dense = tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    # A tensor that is larger than its storage repeats elements: a few bytes could claim all memory.
    if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "a tensor that is not plain"
    if tensor.dtype not in DTYPES:
        return f"values of {tensor.dtype}"
    if tensor.ndim > MAX_RANK:
        return f"a tensor of {tensor.ndim} dimensions"
    return None if bool(torch.isfinite(tensor).all()) else "values that are not finite"


def load_tensors(file: BinaryIO, name: str) -> object:
    """Read a file of `torch.save` with the unpickler that allows only tensors.

    Args:
        file: open at its start.
        name: how messages call it.

    Raises:
        DataError: it is not such a file, or unpacks to more than its size.
        OSError: it cannot be read.
    """
    if file.read(2) == b"PK":
        with open_archive(file, name) as archive:
            num_bytes = sum(member.file_size for member in archive.infolist())
        if num_bytes > file.seek(0, 2):
            raise DataError(f"{name}: found more values than bytes; expected a file of torch.save; save it again")
    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a file of unknown origin can make the unpickler raise nearly anything
        raise DataError(
            f"{name}: found bytes that do not load safely ({type(error).__name__}); expected tensors by name, as "
            "torch.save writes them; save them again"
        ) from None


def load_safetensors(content: bytes, name: str) -> dict[str, Tensor]:
    """Read the tensors of a `.safetensors` file.

    The package checks that each byte after the head belongs to exactly one tensor, before it allocates.

    Args:
        content: All bytes of the file.
        name: How messages call it.

    Returns:
        The tensors by name, in the order of names.

    Raises:
        DataError: The bytes are not such a file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        if int.from_bytes(content[:8], "little") > MAX_HEAD:
            raise SafetensorError(f"a head of more than {MAX_HEAD:,} bytes")
        return dict(sorted(load(content).items()))
    except (SafetensorError, KeyError, ValueError) as error:  # a KeyError means a dtype that PyTorch lacks
        reason = str(error).removeprefix("Error while deserializing: ")
        raise DataError(
            f"{name}: found {reason[:160]!r}; expected a file of safetensors; save it again, or as .pth"
        ) from None
