"""Timing two ways of doing the same, turn by turn, so that a machine that is busy or throttled slows both."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: of the row.
        what: what is compared with what.
        ratio: the figure; None where it could not be measured, and `facts` say why.
        target: what it is meant to reach, as text.
        reached: whether it does.
        facts: seconds, sizes, differences.
    """

    name: str
    what: str
    ratio: float | None
    target: str
    reached: bool | None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sizes:
    """How much is measured, and on what.

    Attributes:
        images: that our stages map, of which the plain loops do `plain_images`.
        repeats: turns of each way.
        backbone: of the classifiers whose speed counts.
        image_size: side of the square that images are warped to, for them.
        many: of tiny images, where memory and listing are measured.
        most: of tagged images, for what grows with a set.
        million: of images whose nearest references are found.
        part: of these, where what is measured grows with their number alone.
        shared: images that two processes share: many, since starting alone takes seconds.
        reduction: by which the sides of drawn photographs are divided.
    """

    images: int = 48
    plain_images: int = 2
    repeats: int = 3
    backbone: Literal["vgg16", "lite0"] = "vgg16"
    image_size: int = 256
    many: int = 10_000
    most: int = 350_000
    million: int = 1_000_000
    part: int = 12_800
    shared: int = 768
    reduction: int = 1

    def photograph(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a drawn photograph that has this size in a full measurement."""
        return height // self.reduction, width // self.reduction

    @property
    def network(self) -> str:
        """Backbone and size of its images, for the table."""
        return f"{self.backbone} at {self.image_size}²"


QUICK = Sizes(
    images=4,
    plain_images=1,
    repeats=1,
    backbone="lite0",
    image_size=64,
    many=200,
    most=1_000,
    million=1_000,
    part=256,
    shared=24,
    reduction=4,
)


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_of(command: Sequence[str], **given: Any) -> tuple[int, str]:
    """Peak resident bytes of a command, and what it prints.

    A small process starts it: what a large one starts counts, until it is itself, as that large one.
    """
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCHER, *command], check=True, stdout=subprocess.PIPE, text=True, **given
    )
    *printed, peak = done.stdout.splitlines()
    return int(peak) * 1024, "\n".join(printed)


_LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def alternate(repeats: int, warm_up: int = 1, /, **ways: Callable[[], object]) -> dict[str, float]:
    """Median seconds of each way, run in turns, after some that do not count; a single turn counts itself.

    Ways that start a process of their own start cold each time, and need no turns to warm up.
    """
    taken: dict[str, list[float]] = {name: [] for name in ways}
    unused = 0 if repeats == 1 else warm_up
    for turn in range(repeats + unused):
        for name, way in ways.items():
            spent = seconds(way)
            if turn >= unused:
                taken[name].append(spent)
    return {name: statistics.median(values) for name, values in taken.items()}


def at_least(name: str, what: str, ratio: float, minimum: float, **facts: Any) -> Row:
    """A row whose ratio should be high."""
    return Row(name, what, ratio, f"≥ {minimum:g}", ratio >= minimum, facts)


def at_most(name: str, what: str, ratio: float, most: float, **facts: Any) -> Row:
    """A row whose figure should be low."""
    return Row(name, what, ratio, f"≤ {most:g}", ratio <= most, facts)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    from mcis_cli.training.precision import choose_device, choose_precision, describe_machine

    device = choose_device("auto")
    best = choose_precision("auto", device)
    return {
        **describe_machine(device, best),
        "best_precision": best,
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }
