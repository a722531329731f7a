"""Stages that train a network: resume from the newest checkpoint, log every report, seal the weights.

If several processes train together, only the first reads and writes the store, and decides for all.
"""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import torch

from mcis_cli.config import AffinityConfig, Reporter, RunOptions, TrainClsConfig, TrainSegConfig
from mcis_cli.errors import DamagedError, UnfinishedError, UsageError
from mcis_cli.stages.engine.by_image import provenance_of
from mcis_cli.stages.engine.networks import tensors_of
from mcis_cli.stages.stage import settled
from mcis_cli.store import Artifact, Partial, Recipe, Store
from mcis_cli.training.checkpoints import pack, unpack
from mcis_cli.training.loop import Training, Watch, fit
from mcis_cli.training.precision import Precision, choose_precision, describe_machine
from mcis_cli.training.ranks import ALONE, Ranks, joined

Batch = TypeVar("Batch")
Settled = TypeVar("Settled", TrainClsConfig, TrainSegConfig)


def settle(
    config: Settled, recipe_of: Callable[[Settled], Recipe], store: Store, options: RunOptions, device: torch.device
) -> Settled:
    """The settings with a precision: for "auto" that of an existing result, or else the best of this machine.

    Several processes do not look for existing results, because they must agree.
    """
    known = () if options.rank else settled(config)
    own = config.model_copy(update={"precision": choose_precision(config.precision, device)})
    return next((one for one in known if store.find(recipe_of(one))), own)


def unless_done(
    recipe: Recipe,
    store: Store,
    options: RunOptions,
    *,
    processes: int,
    device: torch.device,
    work: Callable[[Ranks], Artifact],
) -> Artifact:
    """The cached artifact of a recipe, or the result of `work`, in this process or in several together.

    Args:
        recipe: the recipe.
        store: the store.
        options: how to run here.
        processes: how many train together.
        device: where this one computes.
        work: trains.

    Raises:
        UsageError: the number of processes is another, or they do not agree on what to train.
        UnfinishedError: another rank seals the result.
    """
    number, count = options.rank or (0, 1)
    if count == 1 and (done := store.find(recipe)):
        return done
    if count != processes:
        raise UsageError(
            f"{recipe.stage}.processes is {processes}, found {count} at work: start it by torchrun --nproc-per-node "
            f"{processes} -m mcis_cli {recipe.stage}, or give --set {recipe.stage}.processes={count}"
        )
    if count == 1:
        return work(ALONE)
    with joined(number, count, options.local or 0, device) as ranks:
        ranks.expect_same("recipe", recipe.key)
        return _found(recipe, store, ranks) or work(ranks)


def _found(recipe: Recipe, store: Store, ranks: Ranks) -> Artifact | None:
    """The artifact, if the first rank finds it; then the others exit."""
    done = store.find(recipe) if ranks.is_first else None
    if ranks.decided(done is not None) and not ranks.is_first:
        raise UnfinishedError(f"rank {ranks.number} has nothing to do: rank 0 found the result cached")
    return done


def settled_precision(config: AffinityConfig | TrainClsConfig | TrainSegConfig) -> Precision:
    """The precision of settings in which it is resolved."""
    assert config.precision != "auto", "settled when the stage begins"
    return config.precision


def batch_of(processes: int, batch: int) -> Mapping[str, Any]:
    """The entry of a network's meta about the processes that trained it together; empty for one process."""
    return {} if processes == 1 else {"processes": processes, "effective_batch": processes * batch}


def train(
    recipe: Recipe,
    prepare: Callable[[], Training[Batch]],
    meta: Callable[[], Mapping[str, Any]],
    store: Store,
    options: RunOptions,
    ranks: Ranks = ALONE,
) -> Artifact:
    """Train, or resume an interrupted training, and seal the weights.

    Args:
        recipe: the recipe.
        prepare: builds the training; not called if another process was quicker.
        meta: facts for later stages; called after the training.
        store: where the artifact goes.
        options: how to run here.
        ranks: the processes that train together.

    Raises:
        UsageError: the training diverged.
        UnfinishedError: another rank seals the result.
    """
    if not ranks.is_first:
        _follow(recipe, store, prepare, ranks)
    with store.begin(recipe, on_wait=lambda pid: options.reporter.note(f"waiting for process {pid}")) as partial:
        if done := _found(recipe, store, ranks):
            return done
        training = prepare()
        start_step = _resume(partial, training)
        _begin_alike(training, start_step, ranks)
        options.reporter.start(recipe.stage, training.num_steps, start_step, images=training.images_of_step)
        with provenance_of(options, describe_machine(training.device, training.precision)) as provenance:
            provenance["computed"] = {"steps": training.num_steps - start_step}
            watch = Watch(
                section=recipe.stage,
                on_step=_reporting(training, start_step, partial, options.reporter),
                on_checkpoint=lambda step: partial.save_checkpoint(
                    step, pack(training.model, training.optimizer, step=step)
                ),
                checkpoint_seconds=options.checkpoint_seconds,
            )
            fit(training, watch, start_step, ranks)
        ranks.leave()
        return partial.seal_tensors(tensors_of(training.model), meta(), provenance)


def _reporting(
    training: Training[Batch], start_step: int, partial: Partial, reporter: Reporter
) -> Callable[[int, Mapping[str, float]], None]:
    """A function that logs and shows the metrics of a step."""
    reported = start_step

    def on_step(step: int, metrics: Mapping[str, float]) -> None:
        nonlocal reported
        epoch = (step - 1) // training.steps_per_epoch + 1
        partial.log({"step": step, "epoch": epoch, **metrics})
        reporter.advance(step - reported, **{name: value for name, value in metrics.items() if name != "grad_norm"})
        reported = step

    return on_step


def _follow(recipe: Recipe, store: Store, prepare: Callable[[], Training[Batch]], ranks: Ranks) -> NoReturn:
    """Train along with the first rank, without output or writing."""
    _found(recipe, store, ranks)
    training = prepare()
    start_step = _begin_alike(training, 0, ranks)
    fit(training, Watch(section=recipe.stage), start_step, ranks)
    ranks.leave()
    raise UnfinishedError(f"rank {ranks.number} is done; rank 0 seals")


def _begin_alike(training: Training[Batch], start_step: int, ranks: Ranks) -> int:
    """Give all ranks the weights and the optimiser's state of the first; returns its number of finished steps."""
    if ranks.count == 1:
        return start_step
    first = pack(training.model, training.optimizer, step=start_step) if ranks.is_first else b""
    payload = ranks.from_first(first)
    return start_step if ranks.is_first else unpack(payload, training.model, training.optimizer)


def _resume(partial: Partial, training: Training[Batch]) -> int:
    """Load the newest intact checkpoint, if there is one; returns the number of finished steps."""
    found = partial.load_checkpoint()
    if found is None:
        partial.truncate_log(0)
        return 0
    step, payload = found
    unpacked = unpack(payload, training.model, training.optimizer)
    if unpacked != step:
        raise DamagedError(f"checkpoint of step {step} says that it is of step {unpacked}; delete {partial.folder}")
    partial.truncate_log(step)
    return step
