"""`eval`: mean IoU of a segmentation network, of localization maps, or of pseudo masks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcis_cli.config import EvalConfig, RunOptions
from mcis_cli.config.values import Enlarging
from mcis_cli.data.catalogue import Catalogue
from mcis_cli.data.loading import Workers
from mcis_cli.errors import DataError, counted
from mcis_cli.maps.localization import enlarge, normalise
from mcis_cli.maps.metrics import count_pixels, scores, sweep, total_counts
from mcis_cli.stages import check, holds, kind_of, names_of, read_record, read_records, stages
from mcis_cli.stages.engine.by_image import ByImage, run_segments
from mcis_cli.stages.engine.engines import in_segments
from mcis_cli.stages.engine.evidence import heed_masks
from mcis_cli.stages.engine.inputs import Inputs, images_of
from mcis_cli.stages.evaluate.declaration import BEFORE_CRF, SCHEMA, recipe, scored_images
from mcis_cli.stages.stage import SCORED, find
from mcis_cli.store import Artifact, Recipe, Record, Store


@in_segments
def run(config: EvalConfig, inputs: Inputs, store: Store, options: RunOptions) -> Artifact:
    """Count the pixels of every image by target and prediction, or return the cached counts.

    A record holds `counts` (n, 4): level, target, predicted, pixels; see `maps.metrics`. `metrics` makes scores of it.

    Args:
        config: settings.
        inputs: a segmentation network, maps, or pseudo masks.
        store: where the artifact goes.
        options: how to run on this machine.

    Raises:
        MissingError: nothing to evaluate, or its images are not found.
        DataError: images of the split have no ground truth, or are not in the artifact.
    """
    subject = inputs.expect(*reversed(SCORED))
    kind = kind_of(subject.stage)
    assert kind is not None, "expected above"
    catalogue = images_of(subject, inputs.data, store)
    images, split = _images(config, subject, catalogue, inputs)
    heed_masks(images, options.reporter)

    def recipe_of(settled: EvalConfig) -> Recipe:
        return recipe(settled, subject.id, images, of=kind)

    if done := find(store, config, recipe_of):
        return done
    machine: Mapping[str, Any] = {}
    if kind == "network":
        from mcis_cli.stages.engine.predictor import settle

        config, machine = settle(config, options)
    wanted = recipe_of(config)
    counting = _counting(config, subject, images, options)
    totals = Totals(len(images), wanted.config, len(catalogue.class_names) + 1)
    with counting.workers:
        return run_segments(
            wanted,
            store,
            options,
            schema=SCHEMA,
            ids=images.ids,
            compute=counting.records,
            meta=lambda: _meta(subject, catalogue, split, wanted),
            machine=machine,
            observe=totals.add,
            observed={"scores": totals.facts},
        )


def _meta(subject: Artifact, catalogue: Catalogue, split: str, recipe: Recipe) -> dict[str, Any]:
    return {
        "dataset": catalogue.id,
        "split": split,
        "class_names": list(catalogue.class_names),
        "subject": subject.stage,
        "subject_id": subject.id,
        "initialisation": subject.meta["initialisation"],
        "supervision": subject.meta.get("supervision", "pseudo"),
        "settings": recipe.as_dict()["config"],
    }


class Totals:
    """Sums counts. The score is a function of them, so it is stored in the provenance, for `mcis ls`.

    Attributes:
        facts: `mean_iou`, a fraction or None, once all images are counted.
    """

    def __init__(self, num_images: int, settings: Mapping[str, Any], num_classes: int) -> None:
        self.facts: dict[str, float | None] = {}
        self._left, self._settings, self._num_classes = num_images, settings, num_classes
        self._total = total_counts((), _num_levels(settings))

    def add(self, record: Record) -> None:
        """Add the counts of an image."""
        self._total += total_counts([record[1]["counts"]], len(self._total))
        self._left -= 1
        if not self._left:
            self.facts["mean_iou"] = _scores(self._total, self._settings, self._num_classes)["mean_iou"]


def _num_levels(settings: Mapping[str, Any]) -> int:
    return len(settings.get("thresholds", ())) + 1 + int(bool(settings.get("crf")))


def _scores(total: NDArray[np.int64], settings: Mapping[str, Any], num_classes: int) -> dict[str, Any]:
    """Scores of counts; those of maps at the best of their thresholds."""
    thresholds = settings.get("thresholds", ())
    if not thresholds:
        return scores(total[0], num_classes)
    swept = sweep(total, thresholds, num_classes)
    best = max(swept, key=lambda at: at["mean_iou"] or 0)
    found = {key: value for key, value in best.items() if key not in ("coverage", "mean_iou_covered")}
    found["threshold_chosen_with_ground_truth"] = len(thresholds) > 1
    found["sweep"] = [{"threshold": at["threshold"], "mean_iou": at["mean_iou"]} for at in swept]
    return found


def metrics(artifact: Artifact) -> dict[str, Any]:
    """Scores of an `eval` artifact, as fractions, with the images and settings that they were measured with.

    Maps have a `sweep` over thresholds; the best score counts, and is marked as chosen with ground truth.
    """
    check(artifact)
    meta = artifact.meta
    names = ["background", *meta["class_names"]]
    settings = meta["settings"]
    total = total_counts((fields["counts"] for _, fields in read_records(artifact)), _num_levels(settings))
    found: dict[str, Any] = {
        "subject": meta["subject"],
        "split": meta["split"],
        "num_images": len(artifact),
        "initialisation": meta["initialisation"],
        "supervision": meta["supervision"],
    }
    found |= _scores(total, settings, len(names))
    if meta["subject"] in names_of("network"):
        found |= {key: settings[key] for key in ("scales", "flip", "crf")}
    if settings.get("crf") and total[BEFORE_CRF].any():  # earlier versions have none
        found["mean_iou_before_crf"] = scores(total[BEFORE_CRF], len(names))["mean_iou"]
    found["iou"] = dict(zip(names, found["iou"], strict=True))
    return found


def describe(metrics: Mapping[str, Any], beyond: str = "") -> str:
    """The images, the initialisation and the settings of a score, without which it means nothing.

    Args:
        metrics: see `metrics`.
        beyond: what it rests on beside tags, see `stages.plan.lineage.beyond_tags`; empty if on nothing.
    """
    images, source = counted(metrics["num_images"], "image"), f"initialised from {metrics['initialisation']}"
    measured = stages()[metrics["subject"]].content.measured(metrics)
    return "; ".join([images, source, *measured, *filter(None, [beyond])])


def _images(config: EvalConfig, subject: Artifact, catalogue: Catalogue, inputs: Inputs) -> tuple[Catalogue, str]:
    """The images to score, and the name of their split."""
    if holds(subject, "network"):
        split = config.split or (inputs.data.val if inputs.data else "val")
        images = catalogue.split(split)
    else:
        split = config.split or subject.meta["split"]
        images = (
            catalogue.only(subject.ids, split) if config.split is None else scored_images(catalogue, split, subject.ids)
        )
        absent = sorted(set(images.ids) - set(subject.ids))
        if absent:
            raise DataError(
                f"{subject.path.name} lacks {len(absent)} of {len(images)} images of split {split!r} ({absent[0]}, …): "
                f"expected all; choose another --split, or make it of these images"
            )
    without = [entry.id for entry in images.entries if entry.mask is None]
    if without:
        raise DataError(
            f"ground truth missing for {len(without)} of {len(images)} images of split {split!r} ({without[0]}, …): "
            "expected a mask each; add them, or choose another split with --split"
        )
    return images, split


def _counting(config: EvalConfig, subject: Artifact, images: Catalogue, options: RunOptions) -> ByImage[Record]:
    if holds(subject, "network"):
        from mcis_cli.stages.engine.predictor import Predictor

        look = lambda image_id: (images.read_image(image_id), images.read_mask(image_id))  # noqa: E731
        return Predictor(subject, config, options).masks(count_prediction, look)

    def count(image_id: str) -> Record:
        target = images.read_mask(image_id)
        fields = read_record(subject, image_id)
        if "mask" in fields:
            return image_id, {"counts": count_pixels(fields["mask"], target)}
        return image_id, {"counts": count_maps(config, fields, target, is_walked=holds(subject, "walked maps"))}

    return ByImage(Workers(count, options.workers), lambda ids: ids)


def count_maps(
    config: EvalConfig, fields: dict[str, NDArray[Any]], target: NDArray[np.uint8], *, is_walked: bool = False
) -> NDArray[np.int64]:
    """Counts of the maps of one image, with the number of thresholds below each pixel's strongest class.

    Maps after a walk are compared without normalising; see `stages.affinity`.
    """
    height, width = target.shape
    enlarging: Enlarging = "bilinear" if is_walked else config.enlarging
    maps = enlarge(fields["maps"].astype(np.float32), height, width, enlarging)
    maps = maps if is_walked else normalise(maps, config.normalization)
    if not len(maps):
        return count_pixels(np.zeros_like(target), target)
    winner = (fields["classes"][maps.argmax(axis=0)] + 1).astype(np.uint8)
    level = np.searchsorted(np.array(config.thresholds, dtype=np.float32), maps.max(axis=0), side="left")
    return count_pixels(winner, target, level=level.astype(np.uint8))


def count_prediction(
    image_id: str, mask: NDArray[np.uint8], before: NDArray[np.uint8], target: NDArray[np.uint8]
) -> Record:
    """Counts of the prediction for one image; with a dense CRF, level 0 after it and `BEFORE_CRF` before it."""
    counts = count_pixels(mask, target)
    if before is mask:
        return image_id, {"counts": counts}
    plain = count_pixels(before, target)
    plain[:, 0] = BEFORE_CRF
    return image_id, {"counts": np.concatenate([counts, plain])}
