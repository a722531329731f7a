import pytest
import torch
from torch import nn

from mcis_cli.errors import UsageError
from mcis_cli.training.parameter_groups import parameter_groups, sgd


def network() -> tuple[nn.Module, list[nn.Parameter]]:
    """A pretrained convolution, a new one, and a new matrix without a bias."""
    model = nn.Module()
    model.stem = nn.Conv2d(3, 4, 3)
    model.head = nn.Conv2d(4, 2, 1)
    model.affinity_weight = nn.Parameter(torch.eye(4))
    return model, [*model.head.parameters(), model.affinity_weight]


def groups_of(model, new):
    return parameter_groups(model, new_parameters=new, new_layer_lr=10, new_bias_lr=20, pretrained_bias_lr=2)


def test_weights_and_biases_pretrained_and_new_learn_at_their_own_rates():
    model, new = network()
    found = {group["name"]: (group["lr_factor"], group["params"]) for group in groups_of(model, new)}
    assert {name: factor for name, (factor, _) in found.items()} == {
        "pretrained weights": 1,
        "pretrained biases": 2,
        "new weights": 10,
        "new biases": 20,
    }
    assert found["pretrained weights"][1] == [model.stem.weight]
    assert {id(p) for p in found["new weights"][1]} == {id(model.head.weight), id(model.affinity_weight)}
    assert found["new biases"][1][0] is model.head.bias


def test_every_trainable_parameter_is_in_one_group_and_frozen_ones_in_none():
    model, new = network()
    model.stem.weight.requires_grad_(False)
    model.head.bias.requires_grad_(False)
    groups = groups_of(model, new)
    assert [group["name"] for group in groups] == ["pretrained biases", "new weights"]
    members = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(members) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_a_network_without_trainable_parameters_is_refused():
    model, new = network()
    model.requires_grad_(False)
    with pytest.raises(UsageError, match="all layers are frozen"):
        groups_of(model, new)


def test_new_parameters_of_another_network_are_a_bug():
    with pytest.raises(AssertionError, match="belong to the model"):
        groups_of(network()[0], network()[1])


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(UsageError, match="nesterov is on without momentum"):
        sgd(groups_of(*network()), momentum=0.0, nesterov=True, weight_decay=0.0)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_agrees_with_the_loop_over_tensors(nesterov):
    results = []
    for fused in (True, False):
        torch.manual_seed(0)
        model, new = network()
        groups = groups_of(model, new)
        optimizer = sgd(groups, momentum=0.9, nesterov=nesterov, weight_decay=5e-4)
        if not fused:
            settings = {"momentum": 0.9, "nesterov": nesterov, "weight_decay": 5e-4}
            optimizer = torch.optim.SGD([dict(g) for g in groups], lr=0.0, foreach=False, **settings)
        for _ in range(3):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * group["lr_factor"]
                for parameter in group["params"]:
                    parameter.grad = torch.randn(parameter.shape)
            optimizer.step()
        results.append([parameter.detach() for parameter in model.parameters()])
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)


def test_weight_decay_holds_for_biases_too():
    """With no gradient, momentum 0 and lr 0.1, a step multiplies everything by 1 - 0.1 * 0.5 * factor."""
    model, new = network()
    before = model.stem.bias.detach().clone()
    optimizer = sgd(groups_of(model, new), momentum=0.0, nesterov=False, weight_decay=0.5)
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group["lr_factor"]
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(model.stem.bias.detach(), before * 0.9)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_layer_may_get_its_first_gradient_later_than_others(nesterov):
    """As the contrastive loss begins: the first step of its layer is that of a loop that has not seen it before."""
    results = []
    for own in (True, False):
        torch.manual_seed(0)
        model, new = network()
        groups = groups_of(model, new)
        optimizer = sgd(groups, momentum=0.9, nesterov=nesterov, weight_decay=5e-4)
        if not own:
            settings = {"momentum": 0.9, "nesterov": nesterov, "weight_decay": 5e-4}
            optimizer = torch.optim.SGD([dict(g) for g in groups], lr=0.0, foreach=False, **settings)
        for step in range(4):
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            for name, parameter in model.named_parameters():
                gradient = torch.randn(parameter.shape)
                parameter.grad = None if step < 2 and name.startswith("head") else gradient
            optimizer.step()
        results.append([parameter.detach() for parameter in model.parameters()])
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)
