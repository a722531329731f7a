"""What would run, why, and what it would cost by what runs before recorded. No torch, nothing computed or written.

Time and disk are told only where something comparable was done in this store: the same stage on images of the same
classes, with settings and a network that cost as much. Nothing is known of what was never done.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mcis_cli.config import DataConfig, Settings
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.errors import counted
from mcis_cli.stages.plan.chain import CHAIN, COMMANDS, NETWORKS, WALK, Expected, Wanted, chain_of, wanted_of
from mcis_cli.stages.plan.why import ROLES, reasons
from mcis_cli.store import Artifact, Begun, Recipe, Store
from mcis_cli.store.notes import Done
from mcis_cli.store.segments import SEGMENT_SIZE

# Settings that change what comes out, and not what it costs; all others have to agree.
_FREE: Mapping[str, frozenset[str]] = {
    "train-cls": frozenset(
        {
            *("seed", "split", "epochs", "mirror", "color_jitter", "lr", "lr_milestones", "lr_gamma", "momentum"),
            *("nesterov", "weight_decay", "new_layer_lr", "new_bias_lr", "pretrained_bias_lr", "affinity_init"),
            *("affinity_lr", "contrastive_from_epoch", "contrastive_rule", "loss_weighting", "lr_schedule", "lr_power"),
        }
    ),
    "cams": frozenset({"seed", "split", "reference_replacement", "reference_self"}),
    "affinity-labels": frozenset({"normalization", "object_power", "background_power"}),
    "affinity-net": frozenset(
        {
            *("seed", "epochs", "mirror", "color_jitter", "lr", "lr_power", "new_layer_lr", "momentum"),
            "weight_decay",
        }
    ),
    "affinity": frozenset({"normalization", "walk_power"}),
    "pseudo": frozenset(
        {
            *("normalization", "foreground_threshold", "conflict_threshold", "salient_threshold", "background_score"),
            *("confident_threshold", "min_foreground", "background_power", "allow_missing_saliency", "crf_confidence"),
            *("min_confidence", "background_threshold", "split", "sharpness", "saliency_weight", "saliency_middle"),
            *("network_weight", "trusted_correlation"),
        }
    ),
    "train-seg": frozenset(
        {
            *("seed", "split", "epochs", "iterations", "scales", "mirror", "supervision", "lr", "lr_power", "head_lr"),
            *("momentum", "weight_decay"),
        }
    ),
    "eval": frozenset({"split", "normalization", "thresholds"}),
}
_OF_NETWORK = ("network", "backbone", "output_stride")


@dataclass(frozen=True)
class Cost:
    """What something is likely to take, by what something comparable took.

    Attributes:
        seconds: of work; None where nothing comparable recorded it.
        num_bytes: of the artifact; None likewise.
        like: the artifact that it is estimated from, and what that was made on; None where there is none.
    """

    seconds: float | None = None
    num_bytes: int | None = None
    like: str | None = None


@dataclass(frozen=True)
class Forecast:
    """A stage: done, or to do.

    Attributes:
        stage: its name.
        of: what it is for, where a command does it more than once.
        artifact: the name of what is there; None where it is to do.
        why: reasons to do it; none where it is done.
        num_images: that it reads.
        cost: of what is left to do.
        following: what the next stage starts from: the artifact, or what is known of it beforehand.
        together: equal for what one pass over the images makes, where what costs most is what all cost.
        key: equal for equal work.
    """

    stage: str
    of: str
    artifact: str | None
    why: tuple[str, ...]
    num_images: int
    cost: Cost
    following: Artifact | Expected
    together: str
    key: str


class Forecaster:
    """Looks at a store once, and tells what stages on an image set would do."""

    def __init__(self, data: DataConfig, catalogue: Catalogue, store: Store, device: str = "auto") -> None:
        self.data = data
        self.catalogue = catalogue
        self.store = store
        self.device = device

    @cached_property
    def _known(self) -> Sequence[Done]:
        return sorted(self.store.all_done(), key=lambda done: str(done.provenance.get("created", "")))

    @cached_property
    def _artifacts(self) -> Mapping[str, Artifact]:
        return {artifact.id: artifact for artifact in self.store.artifacts(on_damaged=lambda error: None)}

    def chain(self, settings: Settings, stages: Sequence[str] = CHAIN, of: str = "") -> Iterator[Forecast]:
        """The stages one after the other, each on what the one before makes.

        Args:
            settings: of all.
            stages: the first of them starts from images; those that the settings do not ask for are left out.
            of: what it is for.
        """
        starts = chain_of(settings)
        made: dict[str | None, Artifact | Expected] = {}
        last: Artifact | Expected | None = None
        for stage in stages:
            if stage in WALK and stage not in starts:
                continue
            upstream = made.get(starts.get(stage), last)
            one = self.stage(stage, settings, upstream, network=made.get(NETWORKS.get(stage, "")), of=of)
            made[stage] = last = one.following
            yield one

    def walk(self, settings: Settings, maps: Artifact | Expected) -> Iterator[Forecast]:
        """The three stages of `mcis affinity`."""
        labels = self.stage("affinity-labels", settings, maps)
        network = self.stage("affinity-net", settings, labels.following)
        yield from (labels, network, self.stage("affinity", settings, maps, network=network.following))

    def stage(
        self,
        stage: str,
        settings: Settings,
        upstream: Artifact | Expected | None,
        *,
        saliency: str | None = None,
        network: Artifact | Expected | None = None,
        of: str = "",
    ) -> Forecast:
        """One stage, given what it starts from."""
        wanted = wanted_of(stage, settings, self.data, self.catalogue, upstream, saliency=saliency, network=network)
        recipe = wanted.recipes[0]
        together = f"{stage} of {upstream.id}" if stage == "cams" and upstream else recipe.key
        found = next(filter(None, map(self.store.find, wanted.recipes)), None)
        if found is not None:
            images, done = len(wanted.images), Cost(0.0, 0)
            return Forecast(stage, of, found.path.stem, (), images, done, found, together, recipe.key)
        begun = next(filter(None, map(self.store.begun, wanted.recipes)), None)
        why = _goes_on(begun, wanted) or reasons(wanted, self._done_before(stage, upstream), self.store)
        cost = self._cost(wanted, network or upstream, _left(wanted, begun))
        following = _expected(wanted, settings, upstream)
        return Forecast(stage, of, None, why, len(wanted.images), cost, following, together, recipe.key)

    def _done_before(self, stage: str, upstream: Artifact | Expected | None) -> list[Done]:
        """What was done that a stage can be compared with: of scores, those of the same kind."""
        subject = upstream.stage if stage == "eval" and upstream is not None else None
        return [one for one in self._known if subject is None or one.meta.get("subject") == subject]

    def _cost(self, wanted: Wanted, upstream: Artifact | Expected | None, left: float) -> Cost:
        like = [one for one in reversed([*self._artifacts.values()]) if self._is_comparable(one, wanted, upstream)]
        timed = next((one for one in like if _seconds_each(one) is not None), None)
        each = None if timed is None else _seconds_each(timed)
        sized = timed or next(iter(like), None)
        if sized is None:
            return Cost()
        return Cost(None if each is None else each * left, _bytes(sized, len(wanted.images)), _told(sized))

    def _is_comparable(self, one: Artifact, wanted: Wanted, upstream: Artifact | Expected | None) -> bool:
        """Whether an artifact cost, an image or a step, what the wanted one will."""
        if one.stage != wanted.stage or one.meta.get("class_names") != list(self.catalogue.class_names):
            return False
        made_on = str(one.provenance.get("machine", {}).get("device", ""))
        if self.device != "auto" and made_on and made_on.partition(":")[0] != self.device.partition(":")[0]:
            return False
        then = _priced(one.stage, one.manifest["recipe"]["config"])
        if all(then != _priced(one.stage, recipe.config) for recipe in wanted.recipes):
            return False
        if upstream is None or one.stage == "train-seg":  # masks cost what they cost, whatever made them
            return True
        before = self._artifacts.get(one.inputs.get("network") or one.inputs.get(ROLES[one.stage], ""))
        return before is not None and _network(before) == _network(upstream)


def distinct_of(forecasts: Sequence[Forecast]) -> list[Forecast]:
    """Equal work once, where it first comes up."""
    found: dict[str, Forecast] = {}
    for one in forecasts:
        found.setdefault(one.key, one)
    return list(found.values())


def totals(forecasts: Sequence[Forecast]) -> Cost:
    """What all together cost, equal work counted once; None where a part is not known."""
    distinct = distinct_of(forecasts)
    passes: dict[str, list[float | None]] = {}
    for one in distinct:
        passes.setdefault(one.together, []).append(one.cost.seconds)
    known = [None if None in some else max(value or 0 for value in some) for some in passes.values()]
    seconds = None if None in known else sum(value or 0 for value in known)
    sizes = [one.cost.num_bytes for one in distinct]
    return Cost(seconds, None if None in sizes else sum(size or 0 for size in sizes))


def _priced(stage: str, config: Mapping[str, Any]) -> dict[str, Any]:
    free = _FREE.get(stage, frozenset({"seed", "split"}))
    return {name: value for name, value in config.items() if name not in free}


def _network(of: Artifact | Expected) -> tuple[object, ...]:
    """The stage of what is worked with, and its network, if it is one."""
    model = of.meta.get("model", {})
    return of.stage, *(model.get(name) for name in _OF_NETWORK)


def _steps(config: Mapping[str, Any], images: Catalogue) -> int:
    """The steps of a training on so many images; of a segmentation network, if no mask is wholly ignored."""
    count = sum(bool(entry.labels) for entry in images.entries) if "batch_pairs" in config else len(images)
    batch = config.get("batch_pairs") or config["batch_size"]
    steps_per_epoch = math.ceil(count / (batch * config.get("processes", 1)))
    return int(config["epochs"] * steps_per_epoch if config.get("epochs") else config["iterations"])


def _left(wanted: Wanted, begun: Begun | None) -> int:
    """How many steps, or images, are to do."""
    if wanted.num_segments is None:
        return max(0, _steps(wanted.recipes[0].config, wanted.images) - ((begun and begun.step) or 0))
    return max(0, len(wanted.images) - SEGMENT_SIZE * (begun.num_segments if begun else 0))


def _goes_on(begun: Begun | None, wanted: Wanted) -> tuple[str, ...]:
    if begun is None:
        return ()
    if wanted.num_segments is None:
        return (f"goes on from step {begun.step} of {_steps(wanted.recipes[0].config, wanted.images)}",)
    return (f"goes on from {begun.num_segments} of {counted(wanted.num_segments, 'segment')}",)


def _seconds_each(one: Artifact) -> float | None:
    """Seconds of an image, or of a step of a training, as an artifact recorded them."""
    seconds, computed = one.provenance.get("seconds"), one.provenance.get("computed")
    counts = [count for count in computed.values() if type(count) is int] if isinstance(computed, Mapping) else []
    if not isinstance(seconds, int | float) or not counts or counts[0] <= 0 or not 0 <= seconds < math.inf:
        return None
    return float(seconds) / counts[0]


def _bytes(one: Artifact, num_images: int) -> int:
    """The size of an artifact; where it has a record for each image, of as many as there will be."""
    size = one.path.stat().st_size
    return round(size / len(one) * num_images) if len(one) else size


def _told(one: Artifact) -> str:
    device = one.provenance.get("machine", {}).get("device")
    return one.path.stem if device is None else f"{one.path.stem} on {device}"


def _expected(wanted: Wanted, settings: Settings, upstream: Artifact | Expected | None) -> Expected:
    """What is known of an artifact before it is made."""
    recipe: Recipe = wanted.recipes[0]
    meta: dict[str, Any] = {"split": wanted.images.split_name}
    if upstream is not None and wanted.stage in (*WALK, "pseudo", "train-seg"):
        meta["split"] = upstream.meta["split"]
    if wanted.stage == "train-cls":
        meta["image_size"] = settings.train_cls.image_size
    if wanted.stage in ("train-cls", "affinity-net", "train-seg"):
        meta["model"] = {name: recipe.config.get(name) for name in _OF_NETWORK}
    words = f"what `mcis {COMMANDS[wanted.stage]}` has yet to make ({recipe.key[:8]})"
    return Expected(wanted.stage, words, meta, wanted.images.ids)
