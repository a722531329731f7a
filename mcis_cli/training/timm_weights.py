"""Published weights of timm's networks: their names, whether they are on this machine, and fetching them.

Names with a tag are known without timm, which is imported only to look up a default tag, and to fetch.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mcis_cli.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

TIMM = "timm:"

logger = logging.getLogger(__name__)


def identity_of(backbone: str) -> str:
    """The name of the weights of a backbone `timm:NAME`, with timm's default tag if NAME has none.

    Raises:
        UsageError: timm lists no such network.
        WeightsError: it publishes no weights of it.
    """
    name = backbone.removeprefix(TIMM)
    if "." in name:
        return backbone
    from timm.models import get_pretrained_cfg

    from mcis_cli.models.timm_networks import require_listed

    require_listed(name)
    config = get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise WeightsError(
            f"timm publishes no weights of {name!r:.80}, and no file was given: use another --backbone, such as lite0, "
            "or give --weights FILE"
        )
    return f"{backbone}.{config.tag}" if config.tag else backbone


def is_cached(name: str) -> bool:
    """Whether the weights of this name, with its tag, are in timm's cache."""
    from huggingface_hub import try_to_load_from_cache

    files = ("model.safetensors", "pytorch_model.bin")  # which timm looks for, in this order
    return any(isinstance(try_to_load_from_cache(f"timm/{name}", file), str) for file in files)


def fetch(name: str) -> "dict[str, Tensor]":
    """The state of a network with its published weights, from timm's cache, or by download.

    Raises:
        UsageError: timm lists no such weights.
        WeightsError: they are neither on this machine nor can be downloaded.
    """
    import timm

    from mcis_cli.models.timm_networks import require_listed

    require_listed(name)
    logger.info("timm looks for its weights of %s", name)
    try:
        with _asking_once():
            state: dict[str, Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # timm fetches in several ways, which raise the errors of their libraries
        reason = one_line(error)[:120].rstrip(". ")
        raise WeightsError(
            f"the weights of {name} are not on this machine and timm cannot download them ({reason}): "
            "use --backbone lite0, which needs no download, or fetch model.safetensors of "
            f"https://huggingface.co/timm/{name} on another machine and give --weights FILE"
        ) from None
    return state


@contextmanager
def _asking_once() -> Iterator[None]:
    """Ask timm's hub once whether it answers, and use the cache alone if it does not.

    The hub's own client repeats each of its requests for a minute, and prints a line each time.
    """
    from huggingface_hub import constants, get_session

    talk, was_offline = logging.getLogger("huggingface_hub"), constants.HF_HUB_OFFLINE
    level = talk.level
    talk.setLevel(logging.ERROR)
    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception:  # its client raises various errors without a network
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was_offline
        talk.setLevel(level)


def one_line(error: Exception) -> str:
    """The reason that an error of the system or of a download gives, in one line."""
    text = getattr(error, "strerror", None) or str(getattr(error, "reason", "")) or str(error)
    return " ".join(text.split()) or type(error).__name__
