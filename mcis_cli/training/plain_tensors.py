"""What a file of tensors may hold, whoever wrote it: plain, finite tensors, no larger than what they are stored in."""

from typing import BinaryIO

import torch
from torch import Tensor

from mcis_cli.data.archives import open_archive
from mcis_cli.data.tensor_files import TORCH_DTYPES
from mcis_cli.errors import DataError


def tensor_fault(tensor: object) -> str | None:
    """Why something is no tensor to start from, or None."""
    if not isinstance(tensor, Tensor):
        return f"a {type(tensor).__name__}"
    dense = tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    # A tensor that is larger than its storage repeats itself: a few bytes could claim all memory.
    if not dense or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "a tensor that is not plain"
    if str(tensor.dtype).removeprefix("torch.") not in TORCH_DTYPES.values():
        return f"values of {tensor.dtype}"
    return None if bool(torch.isfinite(tensor).all()) else "values that are not finite"


def load_tensors(file: BinaryIO, name: str) -> object:
    """What `torch.save` wrote, read by the unpickler that knows tensors and nothing else.

    Args:
        file: open at its start.
        name: how messages call it.

    Raises:
        DataError: it is no such file, or unpacks to more than its size.
        OSError: it cannot be read.
    """
    if file.read(2) == b"PK":
        with open_archive(file, name) as archive:
            num_bytes = sum(member.file_size for member in archive.infolist())
        if num_bytes > file.seek(0, 2):
            raise DataError(f"{name}: found more values than bytes; expected a file of torch.save; save it anew")
    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a file of unknown origin makes the unpickler raise nearly anything
        raise DataError(
            f"{name}: found bytes that do not load safely ({type(error).__name__}); expected tensors by name, as "
            "torch.save writes them; save them anew"
        ) from None
