"""Rows about size: 200 classes and 350,000 images, of which names, tags and a few pixels matter, each by its growth."""

import sys
import time
from pathlib import Path

from benchmarks.material import tagged
from benchmarks.measuring import Row, Sizes, at_most, peak_of
from benchmarks.phases import PHASES

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
        _nearest(sizes),
        at_most(
            "scale (classes)", "peak with 200 classes over that with 20", peaks[0] / peaks[1], 1.1, megabytes=peaks
        ),
    ]


def _measured(num_images: int, num_classes: int) -> dict[str, dict[str, float]]:
    """Seconds and peak memory of all phases, one after the other."""
    with tagged(num_images, num_classes) as bench:
        time.sleep(2.1)  # younger files are not remembered
        return {phase: _in_process(phase, bench.folder) for phase in PHASES}


def _nearest(sizes: Sizes) -> Row:
    """The nearest references of a segment of 64 images among all others, against the bare products of their means."""
    peak, printed = peak_of([sys.executable, "-m", "benchmarks.nearest", str(sizes.most), str(sizes.repeats)])
    compared, products = map(float, printed.split())
    return at_most(
        "scale (nearest)",
        f"ten references with and ten without each class, of 64 images among {sizes.most:,}, over the products alone",
        compared / products,
        2.5,
        processor_seconds=compared,
        processor_hours_for_all=round(compared * sizes.most / 64 / 3600, 2),
        megabytes=round(peak / 1e6),
    )


def _in_process(phase: str, folder: Path) -> dict[str, float]:
    peak, taken = peak_of([sys.executable, "-m", "benchmarks.phases", phase, str(folder)])
    return {"seconds": float(taken), "megabytes": round(peak / 1e6)}
