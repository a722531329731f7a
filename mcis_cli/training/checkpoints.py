"""A training at rest, as bytes and back: weights, the optimiser's state, the number of finished steps.

Learning rates, the order of the images and random draws follow from the recipe and the step, so they are not kept.
Where the bytes are stored, and that they are intact, is the store's business.
"""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mcis_cli.errors import DamagedError

FORMAT = 1


def pack(model: nn.Module, optimizer: torch.optim.Optimizer, *, step: int) -> bytes:
    """Serialise a training.

    Args:
        model: the network.
        optimizer: over its parameters.
        step: finished steps.
    """
    state = {"format": FORMAT, "step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()["state"]}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def unpack(payload: bytes, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load a training into a model and an optimiser that were built by the same recipe; both or neither change.

    Args:
        payload: from `pack`.
        model: the network, on any device.
        optimizer: over its parameters; keeps its own settings, only its state is replaced.

    Returns:
        The number of finished steps.

    Raises:
        DamagedError: the bytes are no checkpoint, or one of another network.
    """
    state = _read(payload)
    _refuse_other_network(state["model"], model.state_dict())
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, entries in state["optimizer"].items():
        if index >= len(parameters) or any(value.shape != parameters[index].shape for value in _tensors(entries)):
            raise DamagedError(_unfit(f"found an optimiser state {index} that no parameter has"))
    optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
    model.load_state_dict(state["model"])
    return int(state["step"])


def _read(payload: bytes) -> dict[str, Any]:
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise DamagedError(_unfit(f"found bytes that cannot be read ({type(error).__name__})")) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise DamagedError(_unfit(f"found no checkpoint of format {FORMAT}"))
    return state


def _refuse_other_network(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    for name in sorted(found.keys() ^ expected.keys()):
        raise DamagedError(_unfit(f"found {name!r} on one side only"))
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            raise DamagedError(_unfit(f"found {name!r} of shape {tuple(found[name].shape)}, not {tuple(tensor.shape)}"))


def _tensors(entries: Mapping[str, Any]) -> list[Tensor]:
    return [value for value in entries.values() if isinstance(value, Tensor) and value.ndim > 0]


def _unfit(found: str) -> str:
    return (
        f"a checkpoint does not fit this training: {found}, expected one of the same recipe; "
        "remove the training's folder in partial/ to start anew"
    )
