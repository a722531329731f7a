"""How a stage runs on this machine: never part of a recipe, never changes a result."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mcis_cli.config.presets import Preset

if TYPE_CHECKING:
    from concurrent.futures import Future

Asked = tuple[str, int]  # a segment: the key of its recipe, and its number


class Reporter(Protocol):
    """Receives progress. Stages never print."""

    def start(self, title: str, total: int, done: int = 0, *, images: int = 0) -> None:
        """Begin a piece of work of `total` units, `done` of them finished earlier; `images` is the photographs of a
        unit."""

    def advance(self, count: int = 1, **facts: float) -> None:
        """Report `count` more finished units, with `facts` to show, such as loss terms."""

    def note(self, text: str) -> None:
        """Report something that users should know."""

    def warn(self, text: str) -> None:
        """Warn of something that users may have to act on."""


class Silent:
    """A reporter that ignores everything."""

    def start(self, title: str, total: int, done: int = 0, *, images: int = 0) -> None: ...
    def advance(self, count: int = 1, **facts: float) -> None: ...
    def note(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...


class Engine(Protocol):
    """Has segments computed in other processes, each of `threads` threads; see `stages.engine.engines`."""

    threads: int

    def submit(self, packed: bytes, asked: Asked, *, on_gpu: bool) -> "Future[None]":
        """Have a segment of a packed call computed and published; the future ends when it is."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a stage runs on this machine; never part of a recipe, never changes a result."""

    device: str = "auto"
    workers: int = os.cpu_count() or 1
    cache_mb: int = 2048
    scratch_mb: int = 20_480
    checkpoint_seconds: float = 300.0
    shard: tuple[int, int] | None = None  # number, from 1, and count
    rank: tuple[int, int] | None = None  # among the processes of a training: number, from 0, and count
    mixed: bool = False  # allow segments that were computed with different numbers of threads, instructions or devices
    local: int | None = None  # number on this machine, from 0, if it is one of several: selects the GPU
    preset: Preset | None = None
    engine: Engine | None = None  # computes segments in other processes
    elsewhere: Callable[[str, Sequence[int], str], Iterator[int]] | None = None  # does so for the call of a stage
    asked: Iterator[Asked] | None = None  # of a worker of an engine: the segments to compute, and to seal nothing
    reporter: Reporter = field(default_factory=Silent)
