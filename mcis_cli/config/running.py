"""How a stage runs on this machine: never part of a recipe, never changes a result."""

import os
from dataclasses import dataclass, field
from typing import Protocol

from mcis_cli.config.presets import Preset


class Reporter(Protocol):
    """Who hears of progress. Stages never print."""

    def start(self, title: str, total: int, done: int = 0, *, images: int = 0) -> None:
        """A piece of work of `total` units begins, `done` of them found finished; a unit is of so many photographs."""

    def advance(self, count: int = 1, **facts: float) -> None:
        """`count` more units are done; `facts` (loss terms, say) are worth showing."""

    def note(self, text: str) -> None:
        """Something that a reader should know."""

    def warn(self, text: str) -> None:
        """Something that a reader may have to act on."""


class Silent:
    """A reporter that says nothing."""

    def start(self, title: str, total: int, done: int = 0, *, images: int = 0) -> None: ...
    def advance(self, count: int = 1, **facts: float) -> None: ...
    def note(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...


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
    mixed: bool = False  # seal segments that were computed with different numbers of threads, instructions or devices
    local: int | None = None  # number on this machine, from 0, where it is one of several: which GPU it takes
    preset: Preset | None = None
    reporter: Reporter = field(default_factory=Silent)
