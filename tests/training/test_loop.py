import math

import pytest
import torch
from torch import nn

from mcis_cli.errors import UsageError
from mcis_cli.training.checkpoints import pack, unpack
from mcis_cli.training.loop import LossSums, Training, Watch, fit
from mcis_cli.training.parameter_groups import parameter_groups, sgd
from mcis_cli.training.schedules import milestones, poly

STEPS_PER_EPOCH = 5


class SmallNet(nn.Module):
    """A convolution, dropout and a head: the parts whose resuming can go wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.drop = nn.Dropout2d(0.5)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, images):
        return self.head(self.drop(torch.relu(self.stem(images)))).mean((2, 3))


def training(seed=0):
    torch.manual_seed(seed)
    model = SmallNet()
    groups = parameter_groups(
        model, new_parameters=model.head.parameters(), new_layer_lr=10, new_bias_lr=20, pretrained_bias_lr=2
    )
    return model, sgd(groups, momentum=0.9, nesterov=True, weight_decay=5e-4)


def batches(epoch, start):
    for index in range(start, STEPS_PER_EPOCH):
        generator = torch.Generator().manual_seed(1000 * epoch + index)
        images = torch.randn(4, 3, 9, 7, generator=generator)
        yield images, (images.mean((1, 2, 3)) > 0).long()


def losses_of(model):
    def step_loss(batch):
        images, labels = batch
        basic = nn.functional.cross_entropy(model(images), labels)
        return {"basic": basic, "total": basic}

    return step_loss


def run(model, optimizer, *, step_loss=None, **changes):
    """Train, and return the reports and the checkpoints by step."""
    reports, checkpoints = {}, {}
    of_training = {
        "model": model,
        "optimizer": optimizer,
        "step_loss": step_loss or losses_of(model),
        "lr": 0.01,
        "schedule": poly(12, power=0.9),
        "batches": batches,
        "num_steps": 12,
        "steps_per_epoch": STEPS_PER_EPOCH,
        "seed": 3,
        "device": torch.device("cpu"),
        "precision": "fp32",
    }
    of_watch = {
        "section": "train-cls",
        "log_every": 2,
        "on_step": reports.__setitem__,
        "checkpoint_steps": 4,
        "on_checkpoint": lambda step: checkpoints.update({step: pack(model, optimizer, step=step)}),
    }
    rest = {name: value for name, value in changes.items() if name in ("start_step", "ranks")}
    watched = {name: value for name, value in changes.items() if name in Watch.__dataclass_fields__}
    trained = {name: value for name, value in changes.items() if name not in {**rest, **watched}}
    fit(Training(**(of_training | trained)), Watch(**(of_watch | watched)), **rest)
    return reports, checkpoints


def same(first, second):
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    nets = []
    for seed in (3, 3, 4):
        model, optimizer = training()
        run(model, optimizer, seed=seed)
        nets.append(model)
    assert same(nets[0], nets[1])
    assert not same(nets[0], nets[2])


@pytest.mark.parametrize("step", [4, 8])
def test_a_resumed_run_gives_the_bits_and_the_log_of_an_uninterrupted_one(step):
    model, optimizer = training()
    reports, checkpoints = run(model, optimizer)
    assert sorted(checkpoints) == [4, 8]
    resumed, resumed_optimizer = training(seed=99)
    start = unpack(checkpoints[step], resumed, resumed_optimizer)
    assert start == step
    torch.manual_seed(12345)
    later, _ = run(resumed, resumed_optimizer, start_step=start)
    assert same(model, resumed)
    assert later == {done: metrics for done, metrics in reports.items() if done > step}
    for first, second in zip(model.parameters(), resumed.parameters(), strict=True):
        a, b = optimizer.state[first]["momentum_buffer"], resumed_optimizer.state[second]["momentum_buffer"]
        assert torch.equal(a, b)


def test_a_run_interrupted_in_the_middle_goes_on_from_its_last_checkpoint():
    whole, whole_optimizer = training()
    run(whole, whole_optimizer)
    model, optimizer = training()
    kept = {}

    def interrupted(step, metrics):
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(
            model,
            optimizer,
            on_step=interrupted,
            on_checkpoint=lambda step: kept.update({step: pack(model, optimizer, step=step)}),
        )
    resumed, resumed_optimizer = training(seed=99)
    run(resumed, resumed_optimizer, start_step=unpack(kept[4], resumed, resumed_optimizer))
    assert same(whole, resumed)


def test_a_finished_run_has_nothing_left_to_do():
    model, optimizer = training()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert run(model, optimizer, start_step=12) == ({}, {})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_batches_are_asked_for_by_epoch_and_place():
    asked = []

    def recording(epoch, start):
        asked.append((epoch, start))
        return batches(epoch, start)

    run(*training(), batches=recording, start_step=3)
    assert asked == [(0, 3), (1, 0), (2, 0)]


def test_an_epoch_that_ends_early_is_a_bug():
    with pytest.raises(AssertionError, match="epoch 0 ended 5 batches early"):
        run(*training(), batches=lambda epoch, start: [])


@pytest.mark.parametrize("fails", [False, True])
def test_batches_are_closed_at_the_end_and_after_an_error(fails):
    closed = []

    def endless(epoch, start):
        try:
            while True:
                yield from batches(epoch, 0)
        finally:
            closed.append(epoch)

    def fail(batch):
        raise ValueError("as asked")

    model, optimizer = training()
    if fails:
        # `caught` keeps the error, and with it the frames of the loop, alive: only closing can have closed.
        with pytest.raises(ValueError, match="as asked") as caught:
            run(model, optimizer, batches=endless, step_loss=fail)
        assert (closed, caught.type) == ([0], ValueError)
    else:
        run(model, optimizer, batches=endless)
        assert closed == [0, 1, 2]


def test_means_are_over_the_steps_since_the_last_report():
    """Losses 1, 2, 3, ... of a parameter at rest: means of (1, 2, 3), (4, 5, 6) and the last (7)."""
    model = nn.Linear(1, 1)
    values = iter(range(1, 8))

    def step_loss(batch):
        value = float(next(values))
        losses = {"total": model.weight.sum() * 0 + value}
        return losses | {"contrastive": torch.tensor(10 * value)} if value in (2, 4, 5, 7) else losses

    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    reports, _ = run(model, optimizer, step_loss=step_loss, num_steps=7, log_every=3, schedule=lambda step: 0.5)
    assert {step: metrics["total"] for step, metrics in reports.items()} == {3: 2, 6: 5, 7: 7}
    assert {step: metrics["contrastive"] for step, metrics in reports.items()} == {3: 20, 6: 45, 7: 70}
    assert all(metrics["lr"] == 0.005 and metrics["grad_norm"] == 0 for metrics in reports.values())


def test_the_rate_of_a_group_is_base_times_schedule_times_factor():
    model, optimizer = training()
    schedule = milestones([1], gamma=0.1)
    recorded = []

    def step_loss(batch):
        recorded.append([group["lr"] for group in optimizer.param_groups])
        return losses_of(model)(batch)

    run(model, optimizer, step_loss=step_loss, num_steps=2, lr=0.5, schedule=schedule)
    assert recorded[0] == [0.5, 1, 5, 10]
    assert recorded[1] == pytest.approx([0.05, 0.1, 0.5, 1])


def test_checkpoints_come_at_the_first_report_after_enough_steps_or_seconds():
    def checkpoint_steps(**settings):
        return list(run(*training(), **settings)[1])

    assert checkpoint_steps(checkpoint_steps=3, log_every=2) == [4, 8]
    assert checkpoint_steps(checkpoint_steps=100, log_every=2) == []
    seconds = iter(range(0, 1000, 10))
    assert checkpoint_steps(checkpoint_steps=100, checkpoint_seconds=20, clock=lambda: next(seconds)) == [4, 8]


def test_the_callers_random_state_and_evaluation_mode_are_as_expected():
    model, optimizer = training()
    model.eval()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run(model, optimizer)
    assert torch.equal(torch.rand(3), expected)
    assert model.training


def test_a_loss_that_is_not_finite_is_refused_with_a_lower_rate():
    model, optimizer = training()
    done = []

    def step_loss(batch):
        losses = losses_of(model)(batch)
        done.append(batch)
        return losses | {"total": losses["total"] * (math.nan if len(done) == 5 else 1)}

    kept = []
    pattern = r"train-cls diverged between steps 5 and 6: found basic = nan, .*lower --set train-cls\.lr=0\.001$"
    with pytest.raises(UsageError, match=pattern):
        run(model, optimizer, step_loss=step_loss, on_checkpoint=kept.append)
    assert kept == [4]


def test_a_gradient_that_is_not_finite_is_refused_before_a_checkpoint_is_made():
    """The square root has a finite value and an infinite slope at 0."""
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    kept = []
    with pytest.raises(UsageError, match=r"found grad_norm = (inf|nan)"):
        run(
            model,
            optimizer,
            step_loss=lambda batch: {"total": torch.sqrt((model.weight - model.weight.detach()).sum())},
            log_every=1,
            checkpoint_steps=1,
            on_checkpoint=kept.append,
        )
    assert kept == []


def test_a_training_that_learns_lowers_its_loss():
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    images = torch.randn(16, 3)
    target = images @ torch.tensor([[1.0], [-2.0], [0.5]])
    reports, _ = run(
        model,
        optimizer,
        batches=lambda epoch, start: [images] * (STEPS_PER_EPOCH - start),
        step_loss=lambda batch: {"total": (model(batch) - target).square().mean()},
        lr=0.1,
        num_steps=40,
        schedule=lambda step: 1.0,
    )
    assert reports[40]["total"] < 0.05 * reports[2]["total"]


def test_loss_sums_begin_anew_after_they_are_taken():
    sums = LossSums()
    loss = torch.tensor(2.0, dtype=torch.bfloat16)
    sums.add({"total": loss})
    sums.add({"total": torch.tensor(4.0)})
    assert sums.take() == {"total": 3.0}
    sums.add({"basic": torch.tensor(1.0)})
    assert sums.take() == {"basic": 1.0}
    assert loss == 2
