"""Processes that work in one store at the same time; each reads its tasks from a pipe, a line each.

Each is this file run as a script: it reads one JSON object a line, does it, and answers with one. So all begin
together, and a thousand rounds cost no more imports than one.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sizes import LONG

SCHEMA = {"value": ("float32", 1)}
PATIENCE = 4 * 3600 if LONG else 400  # seconds, of a machine that is busy with other things


class StoreProcess:
    """One such process."""

    def __init__(self, folder: Path, number: int = 0) -> None:
        self._log = (folder / f"process-{number}.txt").open("a+")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.pid = self._process.pid

    def send(self, **task: Any) -> None:
        """Give it a task."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait until the task is done; its result."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise AssertionError(f"process {self.pid} ended: {self._log.read()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        os.kill(self.pid, signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdin = None  # else the block below would close it once more
        with self._process, self._log:
            pass


@contextmanager
def start_processes(folder: Path, count: int) -> Iterator[list[StoreProcess]]:
    """So many of them, ready."""
    all_of_them = [StoreProcess(folder, number) for number in range(count)]
    try:
        for one in all_of_them:
            one.send(act="warm_up")
        for one in all_of_them:
            one.answer()
        yield all_of_them
    finally:
        for one in all_of_them:
            one.close()


# What they do


@dataclass
class NoteReporter:
    """A reporter that keeps the notes."""

    notes: list[str] = field(default_factory=list)

    def start(self, title: str, total: int, done: int = 0, *, images: int = 0) -> None: ...
    def advance(self, count: int = 1, **facts: float) -> None: ...
    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.notes.append(text)


def image_ids(count: int) -> list[str]:
    return [f"{number:05d}" for number in range(count)]


def recipe(seed: int) -> Any:
    from mcis_cli.store import Recipe

    return Recipe("cams", 1, {"seed": seed}, {"classifier": "ab" * 32})


def work(
    store: str, seed: int, count: int, pause: float = 0.0, shard: list[int] | None = None, locks: bool = True
) -> dict[str, Any]:
    """Compute an artifact of `count` records as a stage does; `pause` seconds a record."""
    import numpy as np

    from mcis_cli.config import RunOptions
    from mcis_cli.errors import UnfinishedError
    from mcis_cli.stages.engine.by_image import run_segments
    from mcis_cli.store import open_store

    computed: list[str] = []

    def compute(ids: Any) -> Any:
        computed.append(ids[0])
        for image_id in ids:
            time.sleep(pause)
            yield image_id, {"value": np.full(int(image_id) % 4, int(image_id) + seed, dtype=np.float32)}

    reporter = NoteReporter()
    numbers = None if shard is None else (shard[0], shard[1])
    with _locks(locks):
        try:
            with run_segments(
                recipe(seed),
                open_store(store),
                RunOptions(workers=0, device="cpu", shard=numbers, reporter=reporter),
                schema=SCHEMA,
                ids=image_ids(count),
                compute=compute,
                meta=lambda: {"class_names": ["cat"]},
            ) as artifact:
                found = {"path": str(artifact.path), "id": artifact.id, "intact": artifact.is_intact()}
        except UnfinishedError as others:
            found = {"path": None, "left": str(others)}
    return {**found, "computed": computed, "notes": reporter.notes}


@contextmanager
def _locks(on: bool) -> Iterator[None]:
    """With locks, or as on a file system that has none."""
    from mcis_cli.store import store as module

    held = module.held
    if not on:
        module.held = lambda path, on_wait, locking: held(path, on_wait, "none")
    try:
        yield
    finally:
        module.held = held


def collect(store: str, artifacts: int) -> dict[str, Any]:
    """Remove what nothing needs, again and again, until it was so many artifacts and some unfinished work."""
    from mcis_cli.store import open_store
    from mcis_cli.store.upkeep.collection import Choice
    from mcis_cli.store.upkeep.collection import collect as collected

    until, removed, rounds = time.monotonic() + PATIENCE, {"artifacts": 0, "partial": 0, "tmp": 0, "keys": 0}, 0
    opened = open_store(store)
    while (removed["artifacts"] < artifacts or not removed["partial"]) and time.monotonic() < until:
        rounds += 1
        for unneeded in collected(opened, Choice(scopes=frozenset({"artifacts", "partial", "tmp"})), delete=True):
            removed[unneeded.path.relative_to(opened.root).parts[0]] += 1
    return {**removed, "rounds": rounds}


def stage(store: str, source: str, data: str, ended: str, expected: str) -> dict[str, Any]:
    """Bring maps, which nothing keeps, and make masks of them, again and again; now and then stop in the middle.

    It runs until masks were made and the file `ended` exists.
    """
    from mcis_cli.config import DataConfig, PseudoConfig, RunOptions
    from mcis_cli.stages.engine.inputs import Inputs
    from mcis_cli.stages.pseudo import run as pseudo
    from mcis_cli.store import open_store
    from mcis_cli.store.upkeep.adoption import adopt

    class Stop(Exception):
        pass

    class Stopping(NoteReporter):
        def advance(self, count: int = 1, **facts: float) -> None:
            if rounds % 3 == 0:
                raise Stop

    opened = open_store(store)
    until, rounds, vanished, ids = time.monotonic() + 2 * PATIENCE, 0, 0, set()
    while not (ids and os.path.exists(ended)) and time.monotonic() < until:
        rounds += 1
        with adopt(opened, Path(source)) as maps:
            inputs = Inputs(upstream=maps, data=DataConfig(root=data))
            options = RunOptions(workers=0, device="cpu", reporter=Stopping())
            try:
                with pseudo.run(PseudoConfig(), inputs, opened, options) as made:
                    vanished += not made.is_intact()
                    ids.add(made.id)
            except Stop:
                pass
            vanished += not maps.path.exists()
    assert ids <= {expected}, f"{ids} is not {expected}"
    return {"rounds": rounds, "vanished": vanished, "made": len(ids)}


def main() -> None:
    acts = {"work": work, "collect": collect, "stage": stage, "warm_up": warm_up}
    for line in sys.stdin:
        task = json.loads(line)
        sys.stdout.write(json.dumps(acts[task.pop("act")](**task)) + "\n")
        sys.stdout.flush()


def warm_up() -> dict[str, Any]:
    """Import what is needed for the rest."""
    for module in ("h5py", "mcis_cli.stages.engine.by_image", "mcis_cli.store.upkeep.collection"):
        importlib.import_module(module)

    return {}


if __name__ == "__main__":
    main()
