"""Rows about size: 200 classes and 350,000 images, of which names, tags and a few pixels matter, each by its growth."""

import json
import sys
import time
from pathlib import Path

from benchmarks.material import tagged
from benchmarks.measuring import Row, Sizes, at_least, at_most, peak_of
from benchmarks.phases import PHASES
from mcis_cli.store import SEGMENT_SIZE

NUM_CLASSES = 200


def scale(sizes: Sizes) -> list[Row]:
    """Time of each phase over ten times that with a tenth of the images; memory by images, and by classes."""
    few, many, simple = (
        _measured(num_images, num_classes)
        for num_images, num_classes in (
            (sizes.most // 10, NUM_CLASSES),
            (sizes.most, NUM_CLASSES),
            (sizes.most, NUM_CLASSES // 10),
        )
    )
    highest = max(many, key=lambda phase: many[phase]["megabytes"])
    more = many[highest]["megabytes"] - few[highest]["megabytes"]
    peaks = [max(phase["megabytes"] for phase in of.values()) for of in (many, simple)]
    return [
        *(
            at_most(
                f"scale ({phase})",
                f"time for {sizes.most:,} images of {NUM_CLASSES} classes over ten times that for a tenth of them",
                many[phase]["seconds"] / few[phase]["seconds"] / 10,
                1.5,
                **many[phase],
            )
            for phase in PHASES
        ),
        at_most(
            "scale (memory)",
            "kilobytes that each more image takes at the peak of all phases",
            1000 * more / (sizes.most - sizes.most // 10),
            4,
            phase=highest,
        ),
        *_nearest(sizes),
        at_most(
            "scale (classes)", "peak with 200 classes over that with 20", peaks[0] / peaks[1], 1.1, megabytes=peaks
        ),
    ]


def _measured(num_images: int, num_classes: int) -> dict[str, dict[str, float]]:
    """Seconds and peak memory of all phases, one after the other."""
    with tagged(num_images, num_classes) as bench:
        time.sleep(2.1)  # younger files are not remembered
        return {phase: _in_process(phase, bench.folder) for phase in PHASES}


def _nearest(sizes: Sizes) -> list[Row]:
    """Maps of a million images with the nearest references, by one worker and by eight, apart from the network.

    The nearest references of a segment are found among all images. What grows with the number of images alone is
    measured on a part of them, with stand-ins for features and maps.
    """
    count = sizes.million
    peak, printed = peak_of([sys.executable, "-m", "benchmarks.nearest", str(count), str(sizes.repeats)])
    compared, products = map(float, printed.split())
    _, printed = peak_of([sys.executable, "-m", "benchmarks.workers", str(sizes.part)])
    each: dict[str, float] = json.loads(printed)
    divided = compared / SEGMENT_SIZE + each["write_means"] + each["write_maps"]

    def hours(workers: int) -> float:
        return count * (divided / workers + each["read_means"] + each["seal_maps"]) / 3600

    return [
        at_most(
            "scale (nearest)",
            f"ten references with and ten without each class, of 64 images among {count:,}, over the products alone",
            compared / products,
            2.5,
            processor_seconds=compared,
            megabytes_of_a_worker=round(peak / 1e6),
        ),
        at_most(
            "scale (passes)",
            f"passes through the network for the mean of an image, eight workers at once, {sizes.part:,} images",
            each["passes"],
            1,
            workers=8,
        ),
        at_least(
            "scale (workers)",
            f"hours of one worker over those of eight, {count:,} images, without the network",
            hours(1) / hours(8),
            6,
            hours_of_one=round(hours(1), 2),
            hours_of_eight=round(hours(8), 2),
            milliseconds_for_an_image={
                "compare": round(1000 * compared / SEGMENT_SIZE, 3),
                **{name: round(1000 * taken, 3) for name, taken in each.items() if name != "passes"},
            },
            measured_on=sizes.part,
        ),
    ]


def _in_process(phase: str, folder: Path) -> dict[str, float]:
    peak, taken = peak_of([sys.executable, "-m", "benchmarks.phases", phase, str(folder)])
    return {"seconds": float(taken), "megabytes": round(peak / 1e6)}
