"""Streams: stdout carries the result and nothing else; everything for people goes to stderr."""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mcis_cli.store import Artifact

SECONDS_BETWEEN_LINES = 60.0


def console() -> Console:
    """The terminal that people look at: stderr, text never taken for markup."""
    return Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def complain(kind: str, text: str) -> None:
    """One line on stderr: `mcis: error: ...`; line breaks and control characters in it become blanks."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    print(f"mcis: {kind}: {plain}", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """One line on stdout."""
    print(text, flush=True)


def announce(
    artifact: Artifact,
    *,
    cached: bool,
    seconds: float,
    as_json: bool,
    quiet: bool,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """The one line of a pipeline command: the artifact's path, its id (`quiet`), or an object (`as_json`)."""
    if as_json:
        facts = {
            "id": artifact.id,
            "path": str(artifact.path),
            "stage": artifact.stage,
            "key": artifact.key,
            "cached": cached,
            "seconds": round(seconds, 3),
        }
        say(json.dumps({**facts, **(extra or {})}))
    else:
        say(artifact.id if quiet else str(artifact.path))


class TerminalReporter:
    """Progress for people: a bar with ETA on a terminal, a line a minute elsewhere, nothing of it when quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.worked = False  # a stage whose artifact is found done never starts anything
        self._console = console()
        self._quiet = quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._title, self._total, self._done = "", 0, 0
        self._began = self._last_line = time.monotonic()
        self._done_before = 0

    def start(self, title: str, total: int, done: int = 0) -> None:
        """A piece of work begins; what was found finished does not count for the speed."""
        self.stop()
        self.worked = True
        self._title, self._total, self._done, self._done_before = title, total, done, done
        self._began = self._last_line = time.monotonic()
        if done:
            self.note(f"{title}: {done} of {total} found done, going on from there")
        if self._quiet or not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(title, total=total, completed=done, facts="")

    def advance(self, count: int = 1, **facts: float) -> None:
        """More units are done."""
        self._done += count
        shown = "  ".join(f"{name} {value:.4g}" for name, value in facts.items())
        if self._progress is not None and self._task is not None:
            if shown:
                self._progress.update(self._task, facts=shown)
            self._progress.advance(self._task, count)
        elif not self._quiet and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._console.print(
                Text(f"{self._title}: {self._done}/{self._total}, {self._eta()} left  {shown}".rstrip())
            )

    def note(self, text: str) -> None:
        """A line for people; not when quiet."""
        if not self._quiet:
            self._console.print(Text(f"mcis: {text}"))

    def warn(self, text: str) -> None:
        """A line for people, also when quiet."""
        self._console.print(Text(f"mcis: warning: {text}", style="yellow"))

    def stop(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
        self._progress = None

    def _eta(self) -> str:
        fresh = self._done - self._done_before
        if fresh <= 0:
            return "unknown time"
        seconds = (time.monotonic() - self._began) / fresh * (self._total - self._done)
        return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
