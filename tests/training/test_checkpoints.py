import io

import pytest
import torch
from torch import nn

from mcis_cli.errors import DamagedError
from mcis_cli.training.checkpoints import pack, unpack


def training(channels=4, *, seed=0, stepped=True):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels), nn.Conv2d(channels, 2, 1))
    model[2].bias.requires_grad_(False)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    if stepped:
        model(torch.randn(2, 3, 7, 5)).sum().backward()
        optimizer.step()
    return model, optimizer


def test_packing_and_unpacking_is_identity():
    model, optimizer = training()
    other, other_optimizer = training(seed=1, stepped=False)
    assert unpack(pack(model, optimizer, step=17), other, other_optimizer) == 17
    for (name, value), (other_name, other_value) in zip(
        model.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert name == other_name
        assert torch.equal(value, other_value)
    first, second = (optimizer.state_dict()["state"], other_optimizer.state_dict()["state"])
    assert first.keys() == second.keys()
    assert all(torch.equal(first[i]["momentum_buffer"], second[i]["momentum_buffer"]) for i in first)


def test_packing_changes_nothing_and_the_bytes_do_not_follow_the_training():
    model, optimizer = training()
    payload = pack(model, optimizer, step=1)
    before = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.zero_()
    unpack(payload, model, optimizer)
    assert torch.equal(model[0].weight, before)


def test_the_optimiser_keeps_its_own_settings_and_the_memory_format_stays():
    payload = pack(*training(), step=1)
    model, optimizer = training(seed=1, stepped=False)
    optimizer.param_groups[0].update(lr=0.25, momentum=0.5)
    unpack(payload, model, optimizer)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (0.25, 0.5)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_a_checkpoint_before_the_first_step_has_no_momentum():
    payload = pack(*training(stepped=False), step=0)
    model, optimizer = training(seed=1, stepped=False)
    assert unpack(payload, model, optimizer) == 0
    assert not optimizer.state_dict()["state"]


def test_a_checkpoint_of_another_network_is_refused_and_changes_nothing():
    model, optimizer = training(stepped=False)
    before = [value.clone() for value in model.state_dict().values()]
    with pytest.raises(DamagedError, match=r"found '0\.bias' of shape \(6,\), not \(4,\)|found '0\.weight' of shape"):
        unpack(pack(*training(6), step=1), model, optimizer)
    smaller = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(DamagedError, match="in only one of them"):
        unpack(pack(smaller, torch.optim.SGD(smaller.parameters(), lr=1), step=1), model, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))
    assert not optimizer.state_dict()["state"]


def test_a_state_of_another_optimiser_is_refused_and_changes_nothing():
    model, optimizer = training()
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    optimizer.state[optimizer.param_groups[1]["params"][0]]["momentum_buffer"] = torch.ones(2)
    other, other_optimizer = training(seed=1, stepped=False)
    before = other[0].weight.detach().clone()
    with pytest.raises(DamagedError, match="optimiser state 5 that no parameter has"):
        unpack(pack(model, optimizer, step=1), other, other_optimizer)
    assert torch.equal(other[0].weight, before)
    assert not other_optimizer.state_dict()["state"]


@pytest.mark.parametrize("payload", [b"", b"PK\x03\x04", b"nothing of the kind"])
def test_bytes_that_are_no_checkpoint_are_refused(payload):
    with pytest.raises(DamagedError, match="found bytes that cannot be read"):
        unpack(payload, *training())


@pytest.mark.parametrize("content", [{"format": 2, "step": 1}, [1, 2]])
def test_another_format_is_refused(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with pytest.raises(DamagedError, match="found no checkpoint of format 1"):
        unpack(buffer.getvalue(), *training())
