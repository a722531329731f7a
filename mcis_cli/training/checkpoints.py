"""A checkpoint of a training as bytes, and back: weights, the optimiser's state, the number of finished steps.

Learning rates, the order of the images and random draws follow from the recipe and the step, so they are not stored.
The store keeps the bytes and checks them.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mcis_cli.errors import DamagedError, DataError
from mcis_cli.training.plain_tensors import load_tensors, tensor_fault

FORMAT = 1
MAX_STEPS = 2**48


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
    """Load a training into a model and an optimiser that were built by the same recipe; both change, or neither.

    Args:
        payload: from `pack`.
        model: the network, on any device.
        optimizer: over its parameters; keeps its own settings, only its state is replaced.

    Returns:
        The number of finished steps.

    Raises:
        DamagedError: the bytes are not a checkpoint, or one of another network.
    """
    state = _read(payload)
    _refuse_other_network(state["model"], model.state_dict())
    _refuse_other_optimizer(state["optimizer"], [p for group in optimizer.param_groups for p in group["params"]])
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
    model.load_state_dict(state["model"])
    return int(state["step"])


def _read(payload: bytes) -> dict[str, Any]:
    try:
        state = load_tensors(io.BytesIO(payload), "a checkpoint")
    except DataError as error:
        raise DamagedError(_unfit(f"found bytes that cannot be read ({str(error).partition(': ')[2]:.120})")) from None
    kinds = {"format": int, "step": int, "model": dict, "optimizer": dict}
    if not isinstance(state, dict) or state.keys() != kinds.keys() or state["format"] != FORMAT:
        raise DamagedError(_unfit(f"found no checkpoint of format {FORMAT}"))
    for name, kind in kinds.items():
        # A state dict is an ordered dict, and a bool does not count as a number.
        if not isinstance(state[name], kind) or isinstance(state[name], bool):
            raise DamagedError(_unfit(f"found a {type(state[name]).__name__} as its {name}"))
    if not 0 <= state["step"] < MAX_STEPS:
        raise DamagedError(_unfit(f"found step {state['step']}"))
    return state


def _refuse_other_network(found: Mapping[Any, Any], expected: Mapping[str, Tensor]) -> None:
    for name in sorted(map(str, found.keys() ^ expected.keys())):
        raise DamagedError(_unfit(f"found {name!r:.80} in only one of them"))
    for name, tensor in expected.items():
        if fault := tensor_fault(found[name]):
            raise DamagedError(_unfit(f"found {fault} at {name!r}"))
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise DamagedError(
                _unfit(
                    f"found {name!r} of shape {tuple(found[name].shape)} and {found[name].dtype}, not "
                    f"{tuple(tensor.shape)} and {tensor.dtype}"
                )
            )


def _refuse_other_optimizer(found: Mapping[Any, Any], parameters: Sequence[Tensor]) -> None:
    for index, entries in found.items():
        if type(index) is not int or not 0 <= index < len(parameters) or not isinstance(entries, dict):
            raise DamagedError(_unfit(f"found an optimiser state {index!r:.40} that no parameter has"))
        for name, value in entries.items():
            fault = None if value is None else tensor_fault(value)
            if fault is None and value is not None and value.ndim and value.shape != parameters[index].shape:
                fault = f"a tensor of shape {tuple(value.shape)}"
            if fault or not isinstance(name, str):
                raise DamagedError(_unfit(f"found {fault} in the optimiser state {index} that no parameter has"))


def _unfit(found: str) -> str:
    return (
        f"a checkpoint does not fit this training: {found}, expected one of the same recipe; "
        "remove the training's folder in partial/ to start again"
    )
