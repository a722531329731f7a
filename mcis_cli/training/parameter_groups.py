"""Parameter groups with their learning rates, and the optimiser of both trainings (paper §3.3).

There are four
groups: weights and biases, pretrained and new. Weight decay applies to all of them, biases included, as in the paper's
solver; the factors of the learning rate are settings (difference 6).
"""

from collections.abc import Collection, Iterable, Mapping
from typing import TypedDict

import torch
from torch import nn

from mcis_cli.errors import UsageError


class ParameterGroup(TypedDict):
    """One group for torch's optimisers; the step loop multiplies the learning rate by `lr_factor`."""

    name: str
    params: list[nn.Parameter]
    lr_factor: float


def parameter_groups(
    model: nn.Module,
    *,
    new_parameters: Iterable[nn.Parameter],
    new_layer_lr: float,
    new_bias_lr: float,
    pretrained_bias_lr: float,
    own_factors: Mapping[nn.Parameter, float] | None = None,
) -> list[ParameterGroup]:
    """Sort the trainable parameters of a model into groups, each with its factor on the learning rate.

    The order is fixed (pretrained weights, pretrained biases, new weights, new biases; inside a group that of
    `model.named_parameters()`), so that a checkpoint fits an optimiser that is built again. Frozen parameters and empty
    groups are left out.

    Args:
        model: the whole network.
        new_parameters: parameters of the model that were not pretrained.
        new_layer_lr: factor for new weights; that of pretrained weights is 1.
        new_bias_lr: factor for new biases.
        pretrained_bias_lr: factor for pretrained biases.
        own_factors: parameters with a factor of their own, each a group after the others.

    Raises:
        UsageError: every parameter is frozen.
    """
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    new = {id(parameter) for parameter in new_parameters}
    own = {id(parameter): factor for parameter, factor in (own_factors or {}).items()}
    assert new <= set(map(id, model.parameters())), "new parameters must belong to the model"
    parts: list[ParameterGroup] = [
        {"name": "pretrained weights", "params": [], "lr_factor": 1.0},
        {"name": "pretrained biases", "params": [], "lr_factor": pretrained_bias_lr},
        {"name": "new weights", "params": [], "lr_factor": new_layer_lr},
        {"name": "new biases", "params": [], "lr_factor": new_bias_lr},
    ]
    apart: list[ParameterGroup] = []
    for name, parameter in trainable.items():
        if id(parameter) in own:
            apart.append({"name": name, "params": [parameter], "lr_factor": own[id(parameter)]})
        else:
            parts[2 * (id(parameter) in new) + _is_bias(name)]["params"].append(parameter)
    groups = [part for part in parts if part["params"]] + apart
    if not groups:
        raise UsageError("nothing to train: all layers are frozen, at least one must learn; lower frozen_stages")
    return groups


def sgd(groups: Collection[ParameterGroup], *, momentum: float, nesterov: bool, weight_decay: float) -> torch.optim.SGD:
    """Stochastic gradient descent over parameter groups, with a learning rate of 0 until the step loop sets one.

    The fused kernels take less than half the time of a loop over tensors on a CPU. They round the last few elements of
    some tensors differently from that loop, and always in the same way.

    Args:
        groups: from `parameter_groups`, on the device of training.
        momentum: in [0, 1).
        nesterov: Nesterov's form of momentum (difference 6).
        weight_decay: L2 penalty, the same for every group.

    Raises:
        UsageError: Nesterov's form without momentum.
    """
    if nesterov and not momentum > 0:
        raise UsageError(
            f"nesterov is on without momentum: found momentum={momentum:g}, expected more than 0; "
            "raise momentum, or set nesterov=false"
        )
    parameters = [parameter for group in groups for parameter in group["params"]]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    optimizer = torch.optim.SGD(
        [dict(group) for group in groups],
        lr=0.0,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        fused=fused or None,
    )
    if momentum:
        # The fused kernels need the state of all parameters or of none, but a layer may get its first gradient later
        # than others (difference 4). Momentum that starts from 0 equals momentum that starts with a step.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _is_bias(name: str) -> bool:
    return name.rpartition(".")[2] == "bias"
