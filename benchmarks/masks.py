"""Rows about masks: fusion with saliency, and the dense CRF."""

import time
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import plain
from benchmarks.material import run_cams, shapes
from benchmarks.measuring import Row, Sizes, alternate, at_least
from mcis_cli.config import CrfConfig, PseudoConfig, resolve
from mcis_cli.data.loading import Workers
from mcis_cli.maps.crf import Candidates, candidates, winners
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.pseudo import run as pseudo


def pseudo_vs_loop(sizes: Sizes) -> list[Row]:
    """`pseudo` with saliency against a loop over the images with the same arithmetic, in one process."""
    with shapes(sizes.images * 8, size=sizes.photograph(300, 500), num_classes=20) as bench:
        _, artifact = bench.classifier("lite0", "quick")
        maps = run_cams(bench, artifact, resolve({"cams": {"refs": 0}}, "quick").cams, "maps")
        images = bench.images()

        def loop() -> None:
            for image_id in maps.ids:
                fields = maps.read(image_id)
                saliency = np.round(images.read_saliency(image_id) * 255).astype(np.uint8)
                classes = fields["classes"].tolist()
                plain.pseudo_mask(fields["maps"].astype(np.float32), classes, saliency, images.num_foreground)

        thresholds = (0.99 - number / 1e6 for number in count())  # a new recipe each time

        def ours() -> None:
            config = PseudoConfig(conflict_threshold=next(thresholds))
            pseudo.run(config, Inputs(upstream=maps, data=bench.data), bench.store("maps"), bench.options())

        taken = alternate(sizes.repeats, plain=loop, ours=ours)
        return [
            at_least(
                "pseudo-vs-loop",
                "the whole stage with saliency, 20 classes, against a loop of the same arithmetic in one process",
                taken["plain"] / taken["ours"],
                3,
                images=len(maps),
                milliseconds_per_image=round(1000 * taken["ours"] / len(maps), 2),
                plain_milliseconds_per_image=round(1000 * taken["plain"] / len(maps), 2),
            )
        ]


def crf_vs_single(sizes: Sizes) -> list[Row]:
    """The evaluation's CRF in two processes against one process with all labels."""
    num_images, terms = max(4, sizes.images // 4), CrfConfig().model_dump()
    items = _crf_items(num_images, sizes.photograph(240, 320))
    refine = partial(_crf, terms)

    def each(present_only: bool) -> Iterator[tuple[str, Candidates]]:
        return ((name, candidates(image, scores, present_only=present_only)) for name, image, scores in items)

    with Workers(refine, 2, processes=True) as two:
        began = time.perf_counter()
        list(two.map(islice(each(False), 2)))
        start = time.perf_counter() - began
        single, double = dict(map(refine, each(False))), dict(two.map(each(False)))
        taken = alternate(
            sizes.repeats,
            plain=lambda: list(map(refine, each(False))),
            two=lambda: list(two.map(each(False))),
            present=lambda: list(two.map(each(True))),
        )
    same = all(np.array_equal(single[image_id], double[image_id]) for image_id in single)
    facts = {
        "images": num_images,
        "labels": 21,
        "present": 3,
        "seconds_single": round(taken["plain"] / num_images, 3),
        "seconds_until_first_results": round(start, 2),
    }
    return [
        at_least(
            "crf-vs-single",
            "two processes, all labels; once they have started",
            taken["plain"] / taken["two"],
            1.8,
            same=same,
            **facts,
        ),
        at_least(
            "crf-vs-single (present)",
            "two processes, labels that are present; once they have started",
            taken["plain"] / taken["present"],
            4,
            **facts,
        ),
    ]


def _crf_items(num_images: int, size: tuple[int, int]) -> list[tuple[str, NDArray[np.uint8], NDArray[np.float32]]]:
    """Drawn images (noise alone would fill the CRF's lattice as no photograph does), with scores of 21 labels."""
    with shapes(num_images, size=size) as bench:
        images = bench.images()
        photographs = map(images.read_image, images.ids)
        return [
            (name, image, _scores(number, *image.shape[:2]))
            for number, (name, image) in enumerate(zip(images.ids, photographs, strict=True))
        ]


def _scores(number: int, height: int, width: int) -> NDArray[np.float32]:
    draw = np.random.default_rng(number)
    scores = draw.random((21, height, width), dtype=np.float32) * 1e-3
    for label, weight in ((0, 3.0), (4, 2.5), (9, 2.0)):
        scores[label] += weight * draw.random((height, width), dtype=np.float32)
    probabilities: NDArray[np.float32] = scores / scores.sum(axis=0)
    return probabilities


def _crf(terms: dict[str, Any], item: tuple[str, Candidates]) -> tuple[str, NDArray[np.uint8]]:
    image_id, chosen = item
    return image_id, winners(chosen, terms)
