"""Random sequences of all that is done with two stores, against a small model of what must be there.

The model knows the bytes of every artifact, note and name that was written and is neither removed nor damaged, and
what was made from what. Whatever is done, in whatever order, these bytes stay, but for what `gc` may take.
"""

import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
from sizes import size
from store_makers import rewrite

from mcis_cli.errors import DamagedError, McisError
from mcis_cli.store import Recipe, Store, files, notes, open_store
from mcis_cli.store.artifact import file_name
from mcis_cli.store.upkeep.adoption import adopt
from mcis_cli.store.upkeep.collection import Choice, collect
from mcis_cli.store.upkeep.merging import merge
from mcis_cli.store.upkeep.repair import repair
from mcis_cli.store.upkeep.verification import verify

STAGES = ("train-cls", "cams", "pseudo", "train-seg")
NAMES = ("best", "old")
LENGTH = 12
WEIGHTS = {"make": 5, "name": 3, "unname": 1, "gc": 2, "bring": 2, "import_one": 1, "remove": 1} | {
    "damage": 3,
    "verify": 2,
}


class Modelled:
    """A store, and what must be in it."""

    def __init__(self, root: Path, made_from: dict[str, tuple[str, ...]], variant: int) -> None:
        self.store: Store = open_store(root)
        self.made_from = made_from  # content ids by content id; shared by both stores
        self.variant = variant  # its machine computes other bits
        self.must: dict[Path, bytes] = {}
        self.damaged: dict[Path, bytes] = {}  # what they were

    def learn(self, *paths: Path) -> None:
        for path in paths:
            self.must[path] = path.read_bytes()
            self.damaged.pop(path, None)

    def check(self) -> None:
        for path, data in self.must.items():
            assert path.read_bytes() == data, path

    def artifacts(self) -> dict[str, Path]:
        """The files of intact artifacts by content id."""
        names = {content_id[:12]: content_id for content_id in self.made_from}
        return {names[path.stem[-12:]]: path for path in self.must if path.suffix == ".h5"}

    def named(self) -> set[str]:
        found = (notes.parse_reference(data) for path, data in self.must.items() if path.parent.name == "refs")
        return {content_id for content_id in found if content_id}

    def needed(self) -> set[str]:
        found, left = set(), list(self.named())
        while left:
            if (one := left.pop()) not in found:
                found.add(one)
                left.extend(self.made_from.get(one, ()))
        return found

    # Actions

    def make(self, draw: Random) -> None:
        """Make a stage from the newest artifact of the stage before it."""
        made = {path.name.rpartition("-")[0]: one for one, path in self.artifacts().items()}
        possible = [place for place in range(len(STAGES)) if not place or STAGES[place - 1] in made]
        place = draw.choice((possible[-1], draw.choice(possible)))  # rather the last: chains are what `gc` has to keep
        inputs = {"upstream": made[STAGES[place - 1]]} if place else {}
        of = Recipe(STAGES[place], 1, {"seed": draw.randrange(2)}, inputs)
        note = self.store.note_path(of.stage, of.key)
        done = notes.parse_done(self.must[note], of.stage, of.key) if note in self.must else None
        with self.store.begin(of) as partial:
            artifact = partial.sealed() or partial.seal_tensors({"x": np.array([self.variant])}, {"key": of.key}, {})
        artifact.close()
        if done is not None and file_name(of.stage, done.id) in {path.name for path in self.must}:
            assert artifact.id == done.id
        self.made_from[artifact.id] = tuple(inputs.values())
        if artifact.is_intact():
            self.learn(artifact.path)
        self.learn(note)

    def name(self, draw: Random) -> None:
        name = draw.choice(NAMES)
        if ids := sorted(self.artifacts()):
            self.store.name(name, self.store.get(draw.choice(ids)))
            self.learn(self.store.root / "refs" / name)

    def unname(self, draw: Random) -> None:
        path = self.store.root / "refs" / draw.choice(NAMES)
        self.store.unname(path.name)
        self.must.pop(path, None)
        self.damaged.pop(path, None)

    def gc(self, draw: Random) -> None:
        choice = Choice(scopes=frozenset(("artifacts", "partial", "tmp")))
        if any(path.suffix != ".h5" for path in self.damaged):
            with pytest.raises(DamagedError):
                list(collect(self.store, choice, delete=True))
            return
        needed, had = self.needed(), self.artifacts()
        list(collect(self.store, choice, delete=True))
        kept = {file_name(path.stem[:-13], one) for one, path in had.items() if one in needed}
        for path in [path for path in self.must if path.parent.name != "refs"]:
            done = notes.parse_done(self.must[path], path.parent.name, path.stem) if path.suffix == ".json" else None
            name = path.name if done is None else file_name(done.recipe.stage, done.id)
            if name not in kept and not path.exists():
                assert path.suffix == ".h5" or done is None or done.id not in needed, path
                del self.must[path]
        for path in [path for path in self.damaged if not path.exists()]:
            assert not any(path.name.endswith(f"-{one[:12]}.h5") for one in needed), path
            del self.damaged[path]
        if not self.damaged and not (self.store.root / "damaged").exists():
            left = {path.name for path in (self.store.root / "artifacts").glob("*.h5")}
            assert left == kept, (left, kept, needed)

    def bring(self, other: "Modelled") -> None:
        before = dict(other.must) | {path: path.read_bytes() for path in self.damaged if path.suffix != ".h5"}
        list(merge(self.store, other.store, lambda error: None))
        assert {path: path.read_bytes() for path in before} == before
        for path in other.artifacts().values():
            here = self.store.root / "artifacts" / path.name
            is_intact = here.read_bytes() in (self.must.get(here), path.read_bytes())
            assert is_intact or here in self.damaged
            if is_intact:
                self.learn(here)
        self.take_in("refs/*", "keys/*/*.json")

    def take_in(self, *patterns: str) -> None:
        """What came, and was not here."""
        for pattern in patterns:
            for path in self.store.root.glob(pattern):
                if path not in self.must and path not in self.damaged:
                    self.learn(path)

    def import_one(self, other: "Modelled", draw: Random) -> None:
        if paths := sorted(other.artifacts().values()):
            with adopt(self.store, draw.choice(paths)) as artifact:
                assert artifact.is_intact()
                self.learn(artifact.path)
            self.take_in("keys/*/*.json")

    def remove(self, draw: Random) -> None:
        if paths := sorted(self.artifacts().values()):
            path = draw.choice(paths)
            path.unlink()
            del self.must[path]

    def damage(self, draw: Random) -> None:
        if self.must:
            folder = draw.choice(sorted({path.parent for path in self.must}))
            path = draw.choice(sorted(path for path in self.must if path.parent == folder))
            self.damaged[path] = data = self.must.pop(path)
            place = draw.randrange(8 * len(data))
            flipped = bytearray(data)
            flipped[place // 8] ^= 1 << place % 8
            rewrite(path, bytes(flipped))

    def verify(self, draw: Random) -> None:
        found = {finding.path for finding in verify(self.store).findings if not finding.is_missing}
        assert found == set(self.damaged)
        if draw.randrange(2):
            list(repair(self.store, verify(self.store).findings))
            for path, data in list(self.damaged.items()):
                if path.parent.name == "refs":
                    assert path.exists()
                if path.exists() and (path.parent.name != "refs" or path.read_bytes() == data):
                    self.learn(path)
                elif path.parent.name != "refs":
                    del self.damaged[path]
            assert {one.path for one in verify(self.store).findings if not one.is_missing} == set(self.damaged)


def run(root: Path, seed: int) -> list[str]:
    """One sequence; returns its actions."""
    draw, made_from, said = Random(seed), {}, []
    stores = [Modelled(root / name, made_from, number) for number, name in enumerate(("one", "two"))]
    acts = [act for act, weight in WEIGHTS.items() for _ in range(weight)]
    for _ in range(LENGTH):
        which, act = draw.randrange(2), draw.choice(acts)
        said.append(f"{act} {which}")
        one, other = stores[which], stores[1 - which]
        arguments = {"bring": (other,), "import_one": (other, draw)}.get(act, (draw,))
        try:
            getattr(one, act)(*arguments)
        except McisError as error:
            said[-1] += f": {type(error).__name__}"
        except Exception as error:
            raise AssertionError(f"seed {seed}: {said}") from error
        for store in stores:
            store.check()
    return said


@pytest.mark.slow
@pytest.mark.promise
def test_what_must_be_there_is_there_whatever_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "sync", lambda *_: None)
    monkeypatch.setattr(files, "sync_folder", lambda *_: None)
    refused = done = 0
    for seed in range(size(200, 10_000)):
        said = run(tmp_path / "stores", seed)
        shutil.rmtree(tmp_path / "stores")
        refused += sum(": " in act for act in said)
        done += len(said)
    assert refused < done / 3
