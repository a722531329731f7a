"""Fit thresholds of pseudo masks to corrected masks: those whose masks agree best with what people corrected.

Each candidate makes the masks of the corrected images. The IoU of the classes, averaged in each image, decides; with
background, which most pixels are, it would prefer masks that are too small. Twenty images cannot distinguish close
candidates, so the choice is the centre of those that are within a standard error of the best. The gain on the images
that a choice was made with would be too large, so each image is scored with the choice of all others (leave-one-out).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import product

import numpy as np
from jaxtyping import Float

from mcis_cli.config import PseudoConfig, RunOptions
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

MIN_IMAGES, ENOUGH_FOR_CRF = 5, 40
STRENGTH = "bilateral_weight"
SALIENCY_WEIGHTS = (0.5, 1.0, 1.5)
Values = Mapping[str, float]


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


def run(masks: Artifact, corrected: Artifact, inputs: Inputs, store: Store, options: RunOptions) -> Fitted:
    """Choose the values with which pseudo masks agree best with corrected ones.

    Args:
        masks: pseudo masks of maps; their other settings stay.
        corrected: the corrected masks.
        inputs: `data`, perhaps.
        store: has the maps that the masks were made from.
        options: how to run on this machine.

    Raises:
        UsageError: the masks were made from a network alone or with files of regions, or too few were corrected.
        MissingError: their maps, saliency maps or images are not found.
    """
    config = PseudoConfig.of_recipe(masks.manifest["recipe"]["config"])
    evidence = _evidence(config, masks, replace(inputs, corrected=corrected), store, options)
    ids = _ids(corrected, masks, evidence)
    candidates = list(candidates_of(config, len(ids)))
    before = {name: value_of(config, name) for name in candidates[0]}
    configs = [changed(config, values) for values in candidates]
    alone = replace(evidence, corrected=None)
    cues = [add for open_cue in CUES if (add := open_cue(alone))]
    with_truth = open_corrected(evidence)
    assert with_truth is not None, "the evidence has corrected masks"

    def items() -> Iterator[tuple[Material, Mask]]:
        for image_id in ids:
            material = evidence.material(image_id)
            truth = with_truth(material).corrected
            assert truth is not None, f"{image_id} is corrected"
            yield reduce(lambda made, add: add(made), cues, material), truth

    work = partial(_scores_of_image, configs, evidence.catalogue.num_classes)
    table = []
    options.reporter.start("fit", len(ids), images=1)
    with Workers(work, options.workers, processes=config.crf) as crew:
        for row in crew.map(items()):
            options.reporter.advance()
            table.append(row)
    places = np.array([list(values.values()) for values in candidates])
    place, gain, error = choose(np.array(table), places, candidates.index(before))
    return Fitted(candidates[place], before, len(ids), gain, error)


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


def value_of(config: PseudoConfig, name: str) -> float:
    """The value of a setting, which may be of a nested section."""
    return float(reduce(getattr, name.split("."), config))  # type: ignore[arg-type]


def changed(config: PseudoConfig, values: Values) -> PseudoConfig:
    """The settings with other values."""
    inside = {name.partition(".")[2]: value for name, value in values.items() if "." in name}
    crf = config.crf_settings.model_copy(update=inside)
    return config.model_copy(update={**{k: v for k, v in values.items() if "." not in k}, "crf_settings": crf})


def _scores_of_image(configs: Sequence[PseudoConfig], num_classes: int, item: tuple[Material, Mask]) -> list[float]:
    """The score of an image with each candidate."""
    material, truth = item
    made = (make_mask(config, material)[1]["mask"] for config in configs)
    return [score(mask, truth, num_classes) for mask in made]


def score(mask: Mask, truth: Mask, num_classes: int) -> float:
    """Mean IoU of the foreground classes that a mask or the truth has, in [0, 1]; 1 if neither has any."""
    iou = scores(total_counts([count_pixels(mask, truth)])[0], num_classes)["iou"][1:]
    found = [value for value in iou if value is not None]
    return float(np.mean(found)) if found else 1.0


def choose(
    table: Float[np.ndarray, "image candidate"], places: Float[np.ndarray, "candidate axis"], current: int
) -> tuple[int, float, float]:
    """The centre of the best candidates, or the current one if that is expected to be better; the gain; its error.

    A gain within its error does not speak for the current candidate: with twenty images the centre is nearer to the
    best one on average, unless the current one is the best.

    Args:
        table: scores.
        places: the values of each candidate.
        current: the number of the current candidate.

    Returns:
        The number of the chosen candidate; the mean gain of the images, each with the choice of all others; and its
        standard error.
    """
    others = (np.delete(table, image, axis=0) for image in range(len(table)))
    gains = np.array([row[_centre(one, places)] - row[current] for row, one in zip(table, others, strict=True)])
    error = float(gains.std(ddof=1) / np.sqrt(len(gains)))
    if gains.mean() < -error or not gains.any():
        return current, 0.0, error
    return _centre(table, places), float(gains.mean()), error


def _centre(table: Float[np.ndarray, "image candidate"], places: Float[np.ndarray, "candidate axis"]) -> int:
    """The candidate next to the mean of those that are within a standard error of the best."""
    behind = table[:, [table.mean(axis=0).argmax()]] - table
    near = np.flatnonzero(behind.mean(axis=0) <= behind.std(axis=0, ddof=1) / np.sqrt(len(table)))
    distances = np.abs(places[near] - places[near].mean(axis=0)) / np.maximum(np.ptp(places, axis=0), 1e-9)
    return int(near[distances.sum(axis=1).argmin()])
