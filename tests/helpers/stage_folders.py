"""Folders to stop stages in: a small image set, the store as it is before each stage, and what each stage must make.

Maps, masks and scores have two segments of images each; the trainings have a checkpoint every ten steps.
"""

import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

from fork_server import Command, Forked, Limit, Real
from run_commands import environment, programs

from mcis_cli.data.synthetic.image_set import write_synthetic
from mcis_cli.store import open_store

STAGES = ("train-cls", "cams", "pseudo", "train-seg", "eval")
TRAININGS = ("train-cls", "train-seg")
INTERVAL = 10  # steps between checkpoints
IMPORTS = 4.0  # seconds, about: a `Clock` learns
TOML = """\
preset = "quick"

[data]
root = "{root}"

[train-cls]
image_size = 32
epochs = 3
batch_pairs = 2
frozen_stages = 5
precision = "fp32"

[cams]
split = "all"
refs = 1
image_size = 32
precision = "fp32"

[train-seg]
crop = 33
epochs = 3
batch_size = 10
head_channels = 16
frozen_stages = 5
precision = "fp32"

[eval]
precision = "fp32"
"""


@dataclass
class Tally:
    """What one test did, for the table of a long run (`tests/helpers/long_run.py`)."""

    test: str
    facts: dict[str, Any] = field(default_factory=dict)

    def count(self, **facts: float) -> None:
        """Add to what was counted; names that begin with `most` keep the maximum."""
        for name, value in facts.items():
            before = self.facts.get(name, 0)
            self.facts[name] = max(before, value) if name.startswith("most") else before + value


@dataclass(frozen=True)
class StageFolders:
    """The set and the stores.

    Attributes:
        folder: has `shapes/`, and `before/STAGE/.mcis`.
        made: by stage and flags, what it prints with `--json` where nothing stops it.
        seconds: how long a forked command takes where nothing stops it; a real one imports for `IMPORTS` before.
    """

    folder: Path
    made: dict[tuple[str, ...], dict[str, Any]]
    seconds: dict[str, float]

    def clock(self, stage: str, real: bool, seed: str) -> "Clock":
        """A clock of a stage."""
        return Clock(self.seconds[stage] + IMPORTS * real, f"{stage} {seed} {real}")

    def expect(self, stage: str, flags: tuple[str, ...]) -> None:
        """Find out what a stage makes with other flags where nothing stops it."""
        if (stage, *flags) not in self.made:
            place = self.copy(stage, self.folder / "-".join([stage, *flags]))
            command = place.start(*flags)
            assert command.wait() == 0, command.err
            self.made[stage, *flags] = json.loads(command.out)

    def copy(self, stage: str, folder: Path) -> "StageFolder":
        """A folder in which everything before a stage is done; artifacts are linked, the rest is copied."""
        folder.mkdir(parents=True)
        shutil.copytree(self.folder / "before" / stage, folder / ".mcis", copy_function=link_or_copy)
        (folder / "mcis.toml").write_text(TOML.format(root=self.folder / "shapes"))
        return StageFolder(self, stage, folder, digests(folder / ".mcis"))


@dataclass(frozen=True)
class StageFolder:
    """A folder for one command to be stopped in.

    Attributes:
        origin: where it comes from.
        stage: what is to be made.
        folder: with `mcis.toml` and `.mcis/`.
        before: SHA-256 of each artifact that was sealed when it was made.
    """

    origin: StageFolders
    stage: str
    folder: Path
    before: Mapping[str, str]

    def start(self, *flags: str, command: str | None = None, real: bool = False, limit: Limit = None) -> Command:
        """Start the stage, or another command, with `--workers 0` unless the flags set it."""
        workers = () if "--workers" in flags else ("--workers", "0")
        arguments = [command or self.stage, "--json", *workers, *flags]
        if real:
            return Real(arguments, self.folder, environment(), limit)
        return forked(arguments, self.folder, limit)

    @property
    def store(self) -> Path:
        return self.folder / ".mcis"

    @property
    def total(self) -> int:
        """Images or steps of the stage."""
        return int(self.origin.made[self.stage,]["total"])

    @property
    def partial(self) -> Path | None:
        """The folder of work in progress of the stage."""
        return next(iter((self.store / "partial").glob(f"{self.stage}-*")), None)

    def finished(self) -> int:
        """Images in finished segments, or the step of the newest checkpoint."""
        names = sorted(path.name for path in self.partial.iterdir()) if self.partial else []
        if self.stage in TRAININGS:
            steps = [int(name.split("-")[1].split(".")[0]) for name in names if name.startswith("checkpoint-")]
            return max(steps, default=0)
        total = self.total
        segments = [int(name.split("-")[1].split(".")[0]) for name in names if name.startswith("segment-")]
        return sum(min(64, total - 64 * index) for index in segments)

    def reported(self) -> int:
        """The last step in the log of a training."""
        log = self.partial / "metrics.jsonl" if self.partial else self.folder / "none"
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        return max((json.loads(line)["step"] for line in lines if line.endswith("\n")), default=0)

    def begun(self) -> int:
        """Files that are being written: segments or checkpoints that are not finished, or the artifact."""
        return len(list((self.store / "tmp").glob(f"{self.stage}-*")))

    def moment(self) -> str:
        """Whether the work of the stage had not begun, was going on, or was done."""
        if list((self.store / "keys" / self.stage).glob("*.json")):
            return "after"
        return "during" if self.partial else "before"

    def check_sealed(self) -> None:
        """What was sealed before is as it was, and every artifact that has a name is whole."""
        found = digests(self.store)
        assert {name: found.get(name) for name in self.before} == dict(self.before)
        assert all(artifact.is_intact() for artifact in open_store(self.store).artifacts())

    def finish(self, *flags: str) -> Command:
        """Run the stage once more, to its end; it must make what it makes where nothing stops it."""
        command = self.start(*flags)
        assert command.wait() == 0, command.err
        assert json.loads(command.out)["id"] == self.origin.made[self.stage, *flags]["id"]
        self.check_sealed()
        if not json.loads(command.out)["cached"]:  # else what a kill left after all was done is for `mcis gc`
            assert not self.partial
            assert not self.begun()
        return command

    def remove(self) -> None:
        """Remove the folder: hundreds of them fill a disk."""
        shutil.rmtree(self.folder)


def found_done(command: Command) -> int | None:
    """The point from which a command reports that it resumes; None if it reports none."""
    found = re.search(r"resumes from (\d+) of \d+", command.err)
    return int(found[1]) if found else None


def digests(store: Path) -> dict[str, str]:
    """SHA-256 of each file in `artifacts/`."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted((store / "artifacts").iterdir())}


def link_or_copy(source: str, target: str) -> None:
    """Link what is never changed, copy the rest."""
    if source.endswith(".h5"):
        Path(target).hardlink_to(source)
    else:
        shutil.copy2(source, target)


def forked(arguments: list[str], folder: Path, limit: Limit = None) -> Forked:
    """A command in a session of its own."""
    return Forked(programs(), arguments, folder, environment(), alone=True, limit=limit)


def build(folder: Path) -> StageFolders:
    """Write the set, and make the chain once, with a copy of the store before each stage."""
    write_synthetic(folder / "shapes", num_train=20, num_val=70, num_classes=3, size=(24, 36), seed=1)
    made = StageFolders(folder, {}, {})
    store, toml = folder / ".mcis", folder / "mcis.toml"
    toml.write_text(TOML.format(root=folder / "shapes"))
    open_store(store)
    for stage in STAGES:
        shutil.copytree(store, folder / "before" / stage, copy_function=link_or_copy)
        began = time.monotonic()
        command = forked([stage, "--json", "--workers", "0"], folder)
        assert command.wait() == 0, command.err
        made.seconds[stage] = time.monotonic() - began
        printed = json.loads(command.out)
        total = {"train-cls": 30, "cams": 90, "pseudo": 90, "train-seg": 27, "eval": 70}[stage]
        made.made[stage,] = printed | {"total": total}
    return made


class Clock:
    """Random moments of a command, evenly over how long it takes; it learns how long that is while the machine is busy.

    Attributes:
        seconds: how long that seems to be.
    """

    def __init__(self, seconds: float, seed: str) -> None:
        self.seconds = seconds
        self._draw = Random(seed)

    def wait(self) -> None:
        """Wait until a random moment."""
        time.sleep(self._draw.random() * self.seconds)

    def learn(self, moment: str) -> None:
        """Take in where the moment lay."""
        self.seconds *= {"before": 1.1, "during": 1.0, "after": 0.7}[moment]
