"""Streams: stdout carries the result and nothing else; everything for people goes to stderr."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import Progress, TaskID
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from mcis_cli.cli.terminal.progress import ProgressLine
from mcis_cli.data.places import with_urls
from mcis_cli.errors import plain
from mcis_cli.store import Artifact

SECONDS_BETWEEN_LINES = 60.0
MAX_COLUMNS = 1_000


class _People:
    """stderr as it is now. Errors while writing to it are ignored: they must not stop the work."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


class _PlainConsole(Console):
    """A console that prints names literally: no markup, no emoji, and no control sequences."""

    def __init__(self, file: TextIO | None = None, width: int | None = None) -> None:
        super().__init__(file=file, width=width, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:  # Rich renders everything with it
        for segment in super().render(renderable, options):
            is_own = segment.control is not None or segment.text == "\n"
            yield segment if is_own else segment._replace(text=plain(segment.text))


def console() -> Console:
    """The terminal that people look at: stderr, text never treated as markup."""
    return _PlainConsole(cast(TextIO, _People()))


def results() -> Console:
    """As `console`, for tables that are the result: stdout, as wide as they are, so that no id is cut."""
    return _PlainConsole(width=MAX_COLUMNS)


def complain(kind: str, text: str) -> None:
    """One line on stderr: `mcis: error: ...`; line breaks and control characters in it become blanks."""
    people = cast(TextIO, _People())
    number = os.environ.get("RANK", "0")  # an error of one process is printed by that process, an error of all by each
    where = f" (rank {plain(number)})" if number != "0" else ""
    print(f"mcis: {kind}{where}: {for_people(text)}", file=people, flush=True)


def for_people(text: str) -> str:
    """One line for people; as users give them: URLs, and paths relative to the current folder, if they are below it."""
    text = with_urls(text)
    with suppress(FileNotFoundError):  # the folder is gone
        here = re.escape(f"{Path.cwd()}/")
        text = re.sub(rf"(?<![\w./~:-]){here}(?=[^\s/])", "", text)
    return plain(text)


def is_watched() -> bool:
    """Whether both stdout and stderr are a terminal."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def say(text: str) -> None:
    """One line on stdout, without control sequences."""
    print(plain(text), flush=True)


def say_columns(*cells: str) -> None:
    """One line on stdout, with tabs between its cells."""
    print("\t".join(map(plain, cells)), flush=True)


def say_path(path: Path) -> None:
    """A path on stdout: as it is, for the next command; on a terminal, as text."""
    print(plain(str(path)) if sys.stdout.isatty() else path, flush=True)


class Watched:
    """stdout that remembers its first failure, because the error alone does not name the file.

    Attributes:
        stream: the real stdout.
        failure: its first error, if any.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write, noting a failure."""
        try:
            return self.stream.write(text)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def flush(self) -> None:
        """Flush, noting a failure."""
        try:
            self.stream.flush()
        except OSError as error:
            self.failure = self.failure or error
            raise


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
        say(artifact.id) if quiet else say_path(artifact.path)


class TerminalReporter:
    """Progress for people: on a terminal a line with bar, time left, images a second and losses; otherwise a line a
    minute; nothing if quiet."""

    def __init__(self, *, quiet: bool = False, silent: bool = False) -> None:
        self.worked = False  # a stage whose artifact is cached never starts anything
        self._console = _PlainConsole(StringIO()) if silent else console()  # another process prints
        self._quiet = quiet
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._status: Status | None = None
        self._title, self._total, self._done, self._images = "", 0, 0, 0
        self._facts: tuple[str, ...] = ()
        self._began = self._last_line = time.monotonic()
        self._done_before = 0

    def prepare(self, text: str) -> None:
        """Show the preparation before the first step, on a terminal, until something else is shown."""
        self.stop()
        if not self._quiet and self._console.is_terminal:
            self._status = self._console.status(Text(for_people(text)))
            self._status.start()

    def start(self, title: str, total: int, done: int = 0, *, images: int = 0) -> None:
        """Begin a piece of work; units finished earlier do not count for the speed."""
        self.stop()
        self.worked = True
        self._title, self._total, self._done, self._done_before = title, total, done, done
        self._images, self._facts = images, ()
        self._began = self._last_line = time.monotonic()
        if done:
            self.note(f"{title}: resumes from {done} of {total}")
        if self._quiet or not self._console.is_terminal:
            return
        self._progress = Progress(
            ProgressLine(self._console),
            console=self._console,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # otherwise results would be printed over the bar
        )
        self._progress.start()
        self._task = self._progress.add_task(title, total=total, completed=done, **self._fields())

    def advance(self, count: int = 1, **facts: float) -> None:
        """More units are done."""
        self._done += count
        if facts:
            self._facts = tuple(f"{name} {value:.4g}" for name, value in facts.items())
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=count, **self._fields())
        elif not self._quiet and time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            known = "  ".join((", ".join((self._left(), *self._speed())), *self._facts))
            self._console.print(Text(f"{self._title}: {self._done}/{self._total}, {known}"))

    def counting(self, title: str, *, images: int = 0) -> Callable[[int, int], None]:
        """A function to call with the number of finished units and of all; its first call begins the work."""
        seen: int | None = None

        def progress(done: int, total: int) -> None:
            nonlocal seen
            if seen is None:
                self.start(title, total, images=images)
            self.advance(done - (seen or 0))
            seen = done

        return progress

    def note(self, text: str) -> None:
        """Print a line for people, unless quiet."""
        if not self._quiet:
            self._console.print(Text(f"mcis: {for_people(text)}"))

    def suggest(self, *steps: str) -> None:
        """Print what to do next, on a terminal alone, unless quiet."""
        if steps and is_watched():
            self.note(f"next: {', '.join(steps)}")

    def warn(self, text: str) -> None:
        """Print a line for people, also if quiet."""
        self._console.print(Text(f"mcis: warning: {for_people(text)}", style="yellow"))

    def stop(self) -> None:
        """Remove the bar."""
        if self._progress is not None:
            self._progress.stop()
        if self._status is not None:
            self._status.stop()
        self._progress = self._status = None

    def _fields(self) -> dict[str, Any]:
        return {"left": self._left(), "further": (*self._speed(), *self._facts)}

    def _left(self) -> str:
        """The time left, as far as it is known."""
        fresh, seconds = self._done - self._done_before, time.monotonic() - self._began
        if fresh <= 0 or seconds <= 0:
            return "first step"
        left = seconds / fresh * max(0, self._total - self._done)
        return f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left"

    def _speed(self) -> tuple[str, ...]:
        fresh, seconds = self._done - self._done_before, time.monotonic() - self._began
        return (f"{fresh * self._images / seconds:.3g} images/s",) if self._images and fresh > 0 < seconds else ()
