"""Work on a store for tests to interrupt, what must hold of it after a crash, and the crashes themselves."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from recorded_disk import POWER_LOSSES, Disk, Replay, State, read_state, write_state
from store_makers import rewrite

from mcis_cli.store import Artifact, Recipe, Store, files, notes, open_store
from mcis_cli.store.format import user_block
from mcis_cli.store.upkeep.collection import Choice, collect
from mcis_cli.store.upkeep.merging import merge
from mcis_cli.store.upkeep.repair import move_aside
from mcis_cli.store.upkeep.verification import verify
from mcis_cli.store.workplace import RECIPE

SEGMENTS = (("a", "b"), ("c",))
STEPS = 3
MAPS = Recipe("cams", 1, {}, {})
WEIGHTS = Recipe("train-cls", 1, {}, {})
CONFLICT = Recipe("eval", 1, {}, {})  # came to something else in the other store
SCHEMA = {"x": ("uint8", 1)}
DATA_SET = "ab" * 32
Mark = tuple[Any, ...]
Acknowledge = Callable[..., None]
Task = Callable[..., tuple[str, str]]


def silent(*_: Any) -> None:
    """Acknowledge nothing."""


def work(root: Path, acknowledge: Acknowledge = silent) -> tuple[str, str]:
    """Make a store with both kinds of artifact, a name that moves and a location that changes, reusing
    existing ones; everything that this run itself has written is acknowledged. Returns the content ids."""
    store = open_store(root / ".mcis")
    if store.location(DATA_SET) is None:
        store.set_location(DATA_SET, {"root": "before"})
    maps = _maps(store, acknowledge)
    if store.find(WEIGHTS) is None:
        store.name("best", maps)
        acknowledge("name", maps.id)
    weights = _weights(store, acknowledge)
    store.name("best", weights)
    acknowledge("name", weights.id)
    store.set_location(DATA_SET, {"root": "after"})
    acknowledge("location", "after")
    return maps.id, weights.id


def _maps(store: Store, acknowledge: Acknowledge) -> Artifact:
    with store.begin(MAPS) as partial:
        if done := store.find(MAPS):
            return done
        for index, ids in enumerate(SEGMENTS):
            if not partial.segment(index):
                items = [(image_id, {"x": np.arange(3, dtype=np.uint8)}) for image_id in ids]
                partial.write_segment(index, SCHEMA, items)
                acknowledge("segment", index)
        maps = partial.seal(SCHEMA, len(SEGMENTS), {}, {})
    acknowledge("sealed", maps.id)
    return maps


def _weights(store: Store, acknowledge: Acknowledge) -> Artifact:
    with store.begin(WEIGHTS) as partial:
        if done := store.find(WEIGHTS):
            return done
        step, state = partial.load_checkpoint() or (0, b"0")
        partial.truncate_log(step)
        while step < STEPS:
            step, state = step + 1, state + b"%d" % (step + 1)
            partial.log({"step": step, "loss": 1 / step})
            partial.save_checkpoint(step, state)
            acknowledge("checkpoint", step)
        weights = partial.seal_tensors({"w": np.frombuffer(state, np.uint8)}, {}, {})
    acknowledge("sealed", weights.id)
    return weights


def keep_house(root: Path, acknowledge: Acknowledge = silent) -> tuple[str, str]:
    """Set aside what is damaged, take in what another store has, do the work, and remove what nothing needs."""
    store = open_store(root / ".mcis")
    for finding in verify(store).findings:
        if not finding.is_missing:
            move_aside(store, finding.path)
    for _ in merge(store, open_store(root / "other", create=False), lambda error: None):
        pass
    ids = work(root, acknowledge)
    acknowledge("collecting", ids[0])
    for _ in collect(store, Choice(scopes=frozenset(("artifacts", "partial", "tmp"))), delete=True):
        pass
    return ids


def two_stores(root: Path) -> None:
    """Leave a store behind in which a training is half done, and its newest checkpoint damaged, and another that has
    maps, and has trained longer."""
    for name, steps in ((".mcis", 1), ("other", 2)):
        store = open_store(root / name)
        with suppress(KeyboardInterrupt):
            _weights(store, lambda *what, last=steps: _stop(what == ("checkpoint", last)))
        with store.begin(CONFLICT) as partial:
            scores = partial.seal_tensors({"of": np.frombuffer(name.encode(), np.uint8)}, {}, {})
            store.name(f"scores-{name.strip('.')}", scores)
    _maps(store, silent)
    _damage(next((root / ".mcis" / "partial").glob("*/*.ckpt")))
    open_store(root / ".mcis").temporary("put").write_bytes(b"half")


def half_done(root: Path) -> None:
    """Leave a store behind that has met everything: an artifact that is damaged, as is its key, and half of its
    segments, one of them damaged; checkpoints, the newest damaged; a log that goes on after them, and is torn; what a
    process that is gone left over."""
    store = open_store(root / ".mcis")
    maps = _maps(store, silent)
    _damage(maps.path)
    _damage(next((store.root / "keys" / "cams").iterdir()))
    with suppress(KeyboardInterrupt):
        _maps(store, lambda *what: _stop(what[0] == "segment"))
    _damage(next((store.root / "partial").glob("cams-*/segment-000000.h5")))
    with suppress(KeyboardInterrupt):
        _weights(store, lambda *what: _stop(what == ("checkpoint", STEPS)))
    folder = next((store.root / "partial").glob("train-cls-*"))
    _damage(folder / f"checkpoint-{STEPS:012d}.ckpt")
    with (folder / "metrics.jsonl").open("ab") as log:
        log.write(b'{"step":4}\n{"st')
    store.temporary(folder.name).write_bytes(b"half")
    store.temporary("put").write_bytes(b"half")


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(path, bytes(data))


def _stop(now: bool) -> None:
    if now:
        raise KeyboardInterrupt


@dataclass(frozen=True)
class Recording:
    """Notes of a whole run, with a mark where something was acknowledged, what was there before, what came out, and
    what it was that ran."""

    notes: list[tuple[Any, ...]]
    ids: tuple[str, str]
    start: State = field(default_factory=dict)
    task: Task = work


def record(root: Path, start: State | None = None, task: Task = work) -> Recording:
    """Let a task run in a new folder that has `start` in it."""
    write_state(root, start or {})
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(root)
        patch.setattr(files, "os", disk.namespace)
        ids = task(root, lambda *what: disk.note("mark", *what))
    return Recording(disk.notes, ids, dict(start or {}), task)


def checked(root: Path, promised: frozenset[Mark], run: Recording) -> None:
    """Check what a crash left: whole under every final name, with all that was acknowledged, and the next run ends
    with the same ids, and the same store."""
    ids = run.ids
    if (root / ".mcis" / "format").exists():
        _check_names(root, run.start, ("collecting", ids[0]) in promised)
        _check_conflict(root)
        _check_promises(open_store(root / ".mcis"), promised, ids)
    else:
        assert not promised
    assert run.task(root) == ids
    store = open_store(root / ".mcis")
    _check_names(root, {}, False)
    kept = ids if run.task is work else ids[1:]  # nothing needs the maps
    scores = {name: content_id for name, content_id in store.names().items() if name.startswith("scores-")}
    assert {artifact.id for artifact in store.artifacts()} == {*kept, *scores.values()}
    assert tuple(done.id for recipe in (MAPS, WEIGHTS) if (done := store.find(recipe))) == kept
    assert store.names() == {"best": ids[1], **scores}
    _check_conflict(root)
    assert store.location(DATA_SET) == {"root": "after"}


def _check_names(root: Path, before: State, collecting: bool) -> None:
    """No file under a final name is torn, except those torn before; each key and name leads to an existing artifact."""

    def new(pattern: str) -> Iterator[Path]:
        for path in (root / ".mcis").glob(pattern):
            if before.get(path.relative_to(root).as_posix()) != path.read_bytes():
                yield path

    for path in new("artifacts/*.h5"):
        with Artifact(path) as artifact:
            assert artifact.content_id() == artifact.id
    for path in new("artifacts/*.jsonl"):
        steps = [json.loads(line)["step"] for line in path.read_bytes().splitlines()]
        assert steps == sorted(set(steps))
        assert set(steps) <= set(range(1, STEPS + 1))
    for path in (*new("partial/*/*.h5"), *new("partial/*/*.ckpt")):
        descriptor = files.open_regular(path)
        with open(descriptor, "rb"):
            user_block.verify(descriptor, path, "segment" if path.suffix == ".h5" else "checkpoint")
    for path in new("refs/*"):
        assert json.loads(path.read_bytes())["id"]
    for path in new("keys/*/*"):
        content_id = json.loads(path.read_bytes())["id"]
        assert collecting or (root / ".mcis" / "artifacts" / f"{path.parent.name}-{content_id[:12]}.h5").exists()
    for path in new("locations/*"):
        assert json.loads(path.read_bytes())["root"] in ("before", "after")


def _check_conflict(root: Path) -> None:
    """A recipe that was done here leads to what it came to here, whatever another store says."""
    store = open_store(root / ".mcis")
    if "scores-mcis" in store.names():
        found = store.find(CONFLICT)
        assert found is not None
        assert found.id == store.names()["scores-mcis"]


def _check_promises(store: Store, promised: frozenset[Mark], ids: tuple[str, str]) -> None:
    done = {recipe.stage: store.find(recipe) is not None for recipe in (MAPS, WEIGHTS)}
    for kind, what in promised:
        match kind:
            case "segment":
                is_kept = done["cams"] or _is_kept(store, MAPS, f"segment-{what:06d}.h5")
                assert is_kept or ("collecting", ids[0]) in promised
            case "checkpoint":
                newer = [f"checkpoint-{step:012d}.ckpt" for step in range(what, STEPS + 1)]
                assert done["train-cls"] or any(_is_kept(store, WEIGHTS, name) for name in newer)
            case "sealed":
                is_maps = what == ids[0]
                assert done["cams" if is_maps else "train-cls"] or (is_maps and ("collecting", what) in promised)
            case "name":
                assert store.names().get("best") in ids[ids.index(what) :]
            case "location":
                assert store.location(DATA_SET) == {"root": what}


def _is_kept(store: Store, recipe: Recipe, name: str) -> bool:
    """Whether unfinished work has a file, and says what it is that is made."""
    folder = store.root / "partial" / f"{recipe.stage}-{recipe.key[:16]}"
    return (folder / name).exists() and notes.parse_recipe(notes.parse((folder / RECIPE).read_bytes())) == recipe


@dataclass
class Crashes:
    """Crash after crash of a recorded run, each checked; a state that was checked before is not checked again.

    Attributes:
        folder: an empty one to work in.
        num_states: how many different states were checked.
        num_tried: how many crashes there were.
    """

    folder: Path
    num_tried: int = 0
    seen: set[int] = field(default_factory=set)

    @property
    def num_states(self) -> int:
        return len(self.seen)

    def check(self, state: State, promised: frozenset[Mark], run: Recording) -> None:
        """Check one state."""
        self.num_tried += 1
        key = hash((frozenset(state.items()), promised))
        if key in self.seen:
            return
        self.seen.add(key)
        root = self.folder / "state"
        write_state(root, state)
        checked(root, promised, run)
        shutil.rmtree(root)

    def after_every_call(self, run: Recording, draw: Random, rounds: int, *, since: float = 0) -> None:
        """Kill the process, and cut the power in every way, `rounds` times, after each call of a run.

        The first share `since` of the calls is passed over. With no rounds, each call but those that write to a file
        which has no name of its own yet is followed by one crash, and the seven ways take turns.
        """
        chosen = (call for call in enumerate(prefixes(run)) if rounds or not _is_under_way(run, call[0]))
        for turn, (number, (replay, promised)) in enumerate(chosen):
            if number >= since * len(run.notes):
                for state in crashes_in_turn(replay, draw, rounds, turn):
                    self.check(state, promised, run)

    def twice(self, run: Recording, draw: Random, first: int, second: int, rounds: int) -> None:
        """Crash at `first` moments of a run, and then at `second` moments of the run that repairs it, in every way
        `rounds` times, or with no rounds in one way, in turns.

        A process that was killed leaves its writes to the system, which may not have put them on the disk when the
        power goes while the next one runs.
        """
        moments = sorted(draw.sample(range(len(run.notes)), first))
        for moment in moments:
            killed = bool(draw.randrange(2))
            replay, promised = next(islice(prefixes(run), moment, None))
            state = replay.kill() if killed else replay.power_loss(*draw.choice(POWER_LOSSES), draw)
            again = record(self.folder / "again", state, run.task)
            shutil.rmtree(self.folder / "again")
            assert again.ids == run.ids
            done = run.notes[:moment] if killed else []
            begun = Recording(done + again.notes, run.ids, run.start if killed else state, run.task)
            later = range(len(done), len(begun.notes))
            chosen = set(draw.sample(later, min(second, len(later))))
            for number, (replay, more) in enumerate(prefixes(begun)):
                if number in chosen:
                    for state in crashes_in_turn(replay, draw, rounds, number):
                        self.check(state, promised | more, run)


def prefixes(run: Recording) -> Iterator[tuple[Replay, frozenset[Mark]]]:
    """The folder after each call of a run, and what was acknowledged by then."""
    replay = Replay(run.start)
    promised: frozenset[Mark] = frozenset()
    yield replay, promised
    for call in run.notes:
        replay.apply(call)
        if call[0] == "mark":
            promised |= {call[1:]}
        yield replay, promised


def _is_under_way(run: Recording, number: int) -> bool:
    """Whether the last of a number of calls wrote to a temporary file."""
    return number > 0 and run.notes[number - 1][0] == "write" and run.notes[number - 1][1].startswith(".mcis/tmp/")


def crashes_in_turn(replay: Replay, draw: Random, rounds: int, turn: int) -> Iterator[State]:
    """What is left after the process was killed, and after the power went in each of the ways there are, `rounds`
    times; with no rounds, after one of these, whose turn it is."""
    ways = (None, *POWER_LOSSES)
    chosen = (None, *POWER_LOSSES * rounds) if rounds else (ways[turn % len(ways)],)
    for way in chosen:
        yield replay.power_loss(*way, draw) if way else replay.kill()


def start_of(root: Path, leave: Callable[[Path], None] = half_done) -> State:
    """What `half_done`, or another, leaves."""
    root.mkdir()
    leave(root)
    state = read_state(root)
    shutil.rmtree(root)
    return state
