"""Fit thresholds of pseudo masks to corrected masks: those whose masks agree best with what people corrected.

Each candidate makes the masks of the corrected images. The IoU of the classes, averaged in each image, decides; with
background, which most pixels are, it would prefer masks that are too small. Twenty images cannot distinguish close
candidates. The choice is therefore among those within a standard error of the best, midway between their centre and
the value of the preset. The gain on the images that a choice was made with would be too large, so each image is scored
with the choice of all others (leave-one-out).

Then each class that enough images have gets a factor on its maps in the same way, with 1 in place of the preset.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mcis_cli.config import PseudoConfig, RunOptions, resolve
from mcis_cli.data.loading import Workers
from mcis_cli.errors import MissingError, UsageError, counted
from mcis_cli.maps.metrics import count_pixels, scores, total_counts
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.pseudo.backgrounds import size_of
from mcis_cli.stages.pseudo.cues import CUES
from mcis_cli.stages.pseudo.cues.corrected import open_cue as open_corrected
from mcis_cli.stages.pseudo.evidence import Evidence, open_evidence
from mcis_cli.stages.pseudo.fusing import make_mask
from mcis_cli.stages.pseudo.material import Mask, Material
from mcis_cli.store import Artifact, Store

MIN_IMAGES, ENOUGH_FOR_CRF, ENOUGH_FOR_CLASS = 5, 40, 3
STRENGTH = "bilateral_weight"
SALIENCY_WEIGHTS = (0.5, 1.0, 1.5)
CLASS_WEIGHTS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4, 1.6, 1.8)
Values = Mapping[str, Any]
Job = tuple[str, Sequence[PseudoConfig]]


@dataclass(frozen=True)
class Fitted:
    """The chosen values.

    Attributes:
        values: by the name of the setting in `[pseudo]`.
        before: the values that the masks were made with.
        num_images: corrected images that decided.
        gain: the expected gain in IoU of the classes, averaged in each image and over images; a fraction.
        error: the standard error of the gain.
    """

    values: Values
    before: Values
    num_images: int
    gain: float
    error: float


class Choice(NamedTuple):
    """A candidate by its number, and the gain of each image with the choice of all others."""

    place: int
    gains: Float[np.ndarray, " image"]


def run(masks: Artifact, corrected: Artifact, inputs: Inputs, store: Store, options: RunOptions) -> Fitted:
    """Choose the values with which pseudo masks agree best with corrected ones.

    Args:
        masks: pseudo masks of maps; their other settings stay.
        corrected: the corrected masks.
        inputs: `data`, perhaps.
        store: has the maps that the masks were made from.
        options: how to run on this machine; its preset has the usual values.

    Raises:
        UsageError: the masks were made from a network alone or with files of regions, or too few were corrected.
        MissingError: their maps, saliency maps or images are not found.
    """
    config = PseudoConfig.of_recipe(masks.manifest["recipe"]["config"])
    evidence = _evidence(config, masks, replace(inputs, corrected=corrected), store, options)
    ids = _ids(corrected, masks, evidence)
    candidates = list(candidates_of(config, len(ids)))
    configs = [changed(config, values) for values in candidates]
    table = _scores(evidence, [(image_id, configs) for image_id in ids])
    places = np.array([list(values.values()) for values in candidates])
    usual = resolve({}, options.preset).pseudo
    before = {name: value_of(config, name) for name in candidates[0]}
    place, gains = choose(np.array(table), places, candidates.index(before), [value_of(usual, name) for name in before])
    values: Values = candidates[place]
    weights = _fit_classes(configs[place], evidence, ids, gains) if config.fusion == "soft" else config.class_weights
    if weights != config.class_weights:
        values, before = {**values, "class_weights": weights}, {**before, "class_weights": config.class_weights}
    error = float(gains.std(ddof=1) / np.sqrt(len(gains)))
    return Fitted(values, before, len(ids), float(gains.mean()), error)


def _fit_classes(
    config: PseudoConfig, evidence: Evidence, ids: Sequence[str], gains: Float[np.ndarray, " image"]
) -> dict[str, float]:
    """The weights of classes: new ones of those that enough of the images have. Adds the gains of each image."""
    weights, numbers_of = dict(config.class_weights), defaultdict(list)
    for number, image_id in enumerate(ids):
        for index in evidence.images[image_id].labels:
            numbers_of[evidence.images.class_names[index]].append(number)
    tries = {
        name: sorted({*CLASS_WEIGHTS, weights.get(name, 1.0)})
        for name, numbers in sorted(numbers_of.items())
        if len(numbers) >= ENOUGH_FOR_CLASS
    }
    jobs: list[Job] = []
    for name, values in tries.items():
        configs = [changed(config, {"class_weights": {**weights, name: value}}) for value in values]
        jobs += [(ids[number], configs) for number in numbers_of[name]]
    rows = iter(_scores(evidence, jobs))
    for name, values in tries.items():
        table = np.array([next(rows) for _ in numbers_of[name]])
        place, gained = choose(table, np.log(values)[:, None], values.index(weights.get(name, 1.0)), [0.0])
        gains[numbers_of[name]] += gained
        if values[place] != weights.get(name, 1.0):
            weights[name] = values[place]
    return weights


def _scores(evidence: Evidence, jobs: Sequence[Job]) -> list[list[float]]:
    """The scores of images, each with its settings, against their corrected masks."""
    alone = replace(evidence, corrected=None)
    cues = [add for open_cue in CUES if (add := open_cue(alone))]
    with_truth = open_corrected(evidence)
    assert with_truth is not None, "the evidence has corrected masks"
    options, rows = evidence.options, []

    def items() -> Iterator[tuple[Material, Mask, Sequence[PseudoConfig]]]:
        for image_id, configs in jobs:
            material = evidence.material(image_id)
            truth = with_truth(material).corrected
            assert truth is not None, f"{image_id} is corrected"
            yield reduce(lambda made, add: add(made), cues, material), truth, configs

    work = partial(_scores_of_image, evidence.catalogue.num_classes)
    options.reporter.start("fit", len(jobs), images=1)
    with Workers(work, options.workers, processes=evidence.config.crf) as crew:
        for row in crew.map(items()):
            options.reporter.advance()
            rows.append(row)
    return rows


def _evidence(config: PseudoConfig, masks: Artifact, inputs: Inputs, store: Store, options: RunOptions) -> Evidence:
    """What the masks were made from."""
    if "maps" not in masks.inputs or "regions" in masks.inputs:
        what = "with files of regions" if "maps" in masks.inputs else "from a network alone"
        raise UsageError(f"{masks.path.stem} was made {what}: expected pseudo masks of maps, with thresholds to fit")
    found: dict[str, Artifact] = {}
    for role in ("maps", "network", "saliency"):
        try:
            found |= {role: store.get(masks.inputs[role])} if role in masks.inputs else {}
        except MissingError:
            if role != "saliency":  # otherwise the digest of the image set's own maps
                raise
    given = replace(inputs, upstream=found["maps"], saliency=found.get("saliency"), network=found.get("network"))
    evidence = open_evidence(config, given, store, options)
    own = evidence.images.digest("saliency")
    if "saliency" not in found and masks.inputs.get("saliency", own) != own:
        raise MissingError(
            f"the saliency maps that {masks.path.stem} was made from are not in this store, and those of the image set "
            "are others: import or merge them, or run `mcis pseudo` again"
        )
    return evidence


def _ids(corrected: Artifact, masks: Artifact, evidence: Evidence) -> list[str]:
    """The corrected images that count: those with tags."""
    ids = [image_id for image_id in evidence.corrected_ids if evidence.images[image_id].labels]
    if len(ids) < MIN_IMAGES:
        raise UsageError(
            f"--corrected {corrected.path.stem} has {counted(len(ids), 'mask')} of images of {masks.path.stem}: "
            f"expected {MIN_IMAGES} or more to fit thresholds to"
        )
    return ids


def candidates_of(config: PseudoConfig, num_images: int) -> Iterator[Values]:
    """Combinations of values of the settings that matter most with this background, including those of now.

    Args:
        config: the settings of now.
        num_images: corrected ones; the strength of a CRF is fitted if they are enough.
    """
    size = size_of(config)
    axes: dict[str, Sequence[float]] = {size.setting: size.values}
    if config.background == "saliency" and config.fusion == "soft":
        axes["saliency_weight"] = SALIENCY_WEIGHTS
    if config.crf and num_images >= ENOUGH_FOR_CRF:
        weight = config.crf_settings.bilateral_weight
        axes[f"crf_settings.{STRENGTH}"] = (weight / 2, weight, 2 * weight)
    ordered = {name: sorted({*values, value_of(config, name)}) for name, values in axes.items()}
    for values in product(*ordered.values()):
        yield dict(zip(ordered, values, strict=True))


def value_of(config: PseudoConfig, name: str) -> Any:
    """The value of a setting, which may be of a nested section."""
    return reduce(getattr, name.split("."), config)


def changed(config: PseudoConfig, values: Values) -> PseudoConfig:
    """The settings with other values."""
    inside = {name.partition(".")[2]: value for name, value in values.items() if "." in name}
    crf = config.crf_settings.model_copy(update=inside)
    return config.model_copy(update={**{k: v for k, v in values.items() if "." not in k}, "crf_settings": crf})


def _scores_of_image(num_classes: int, item: tuple[Material, Mask, Sequence[PseudoConfig]]) -> list[float]:
    """The score of an image with each of its settings."""
    material, truth, configs = item
    made = (make_mask(config, material)[1]["mask"] for config in configs)
    return [score(mask, truth, num_classes) for mask in made]


def score(mask: Mask, truth: Mask, num_classes: int) -> float:
    """Mean IoU of the foreground classes that a mask or the truth has, in [0, 1]; 1 if neither has any."""
    iou = scores(total_counts([count_pixels(mask, truth)])[0], num_classes)["iou"][1:]
    found = [value for value in iou if value is not None]
    return float(np.mean(found)) if found else 1.0


def choose(
    table: Float[np.ndarray, "image candidate"],
    places: Float[np.ndarray, "candidate axis"],
    current: int,
    usual: Sequence[float],
) -> Choice:
    """The middle of the best candidates, or the current one if that is expected to be better.

    A gain within its error does not speak for the current candidate: with twenty images the middle is nearer to the
    best one on average, unless the current one is the best.

    Args:
        table: scores.
        places: the values of each candidate.
        current: the number of the current candidate.
        usual: values that are probable before any image is seen.
    """
    others = (np.delete(table, image, axis=0) for image in range(len(table)))
    chosen = (_middle(one, places, usual) for one in others)
    gains = np.array([row[place] - row[current] for row, place in zip(table, chosen, strict=True)])
    if gains.mean() < -gains.std(ddof=1) / np.sqrt(len(gains)) or not gains.any():
        return Choice(current, np.zeros(len(table)))
    return Choice(_middle(table, places, usual), gains)


def _middle(
    table: Float[np.ndarray, "image candidate"], places: Float[np.ndarray, "candidate axis"], usual: Sequence[float]
) -> int:
    """Of the candidates within a standard error of the best: the one midway between their mean and the usual values."""
    behind = table[:, [table.mean(axis=0).argmax()]] - table
    near = np.flatnonzero(behind.mean(axis=0) <= behind.std(axis=0, ddof=1) / np.sqrt(len(table)))
    found = places[near]
    middle = (found.mean(axis=0) + np.clip(usual, found.min(axis=0), found.max(axis=0))) / 2
    distances = np.abs(found - middle) / np.maximum(np.ptp(places, axis=0), 1e-9)
    return int(near[distances.sum(axis=1).argmin()])
