"""Damage of any kind, anywhere in a sealed file, is noticed before HDF5 sees a byte of it."""

import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from itertools import combinations, cycle, islice
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from sizes import size
from store_makers import IDS, SCHEMA, records
from tiny_chain import Chain

from mcis_cli.errors import DamagedError
from mcis_cli.store import Partial, Recipe, Store, open_store
from mcis_cli.store.format import reader

pytestmark = [pytest.mark.promise, pytest.mark.slow]
PAGE = 4096


class Sealed(NamedTuple):
    """A file, and what opens it as the store does: returns False, or raises DamagedError, where it is damaged."""

    path: Path
    is_taken: Callable[[], bool]


class Files(NamedTuple):
    """A store with an artifact of every stage, and work in progress that has segments and checkpoints."""

    store: Store
    partial: Partial
    artifacts: tuple[Sealed, ...]
    segments: tuple[Sealed, ...]
    checkpoints: tuple[Sealed, ...]

    @property
    def every(self) -> tuple[Sealed, ...]:
        return (*self.artifacts, *self.segments, *self.checkpoints)


def copied(chain: Chain, folder: Path) -> Store:
    """The chain's store, with files that may be written to."""
    shutil.copytree(chain.folder / ".mcis", folder / ".mcis")
    for path in (folder / ".mcis").rglob("*.*"):
        path.chmod(0o644)
    return open_store(folder / ".mcis")


@pytest.fixture(scope="module")
def files(untouched, tmp_path_factory):
    store = copied(untouched, tmp_path_factory.mktemp("damage"))
    with store.begin(Recipe("cams", 1, {"unfinished": True}, {})) as partial:
        for number in range(3):
            partial.write_segment(number, SCHEMA, records(IDS[40 * number : 40 * number + 40]))
        for step in (1, 2):
            partial.save_checkpoint(step, Random(step).randbytes(30_000))
        for path in partial.folder.iterdir():
            path.chmod(0o644)
        artifacts = [
            Sealed(artifact.path, lambda path=artifact.path: is_read(store, path)) for artifact in store.artifacts()
        ]
        segments = [
            Sealed(path, lambda number=number: is_segment(partial, number))
            for number, path in enumerate(sorted(partial.folder.glob("segment-*")))
        ]
        checkpoints = [
            Sealed(path, lambda step=step: is_checkpoint(partial, step))
            for step, path in enumerate(sorted(partial.folder.glob("checkpoint-*")), 1)
        ]
        yield Files(store, partial, tuple(artifacts), tuple(segments), tuple(checkpoints))


def is_read(store: Store, path: Path) -> bool:
    with store.get(path.stem) as artifact:
        return bool(artifact.tensors() or artifact.ids or artifact.manifest["num_records"] == 0)


def is_segment(partial: Partial, number: int) -> bool:
    """Whether a process that continues the work treats a segment as finished."""
    partial._known.clear()
    return partial.segment(number)


def is_checkpoint(partial: Partial, step: int) -> bool:
    """Whether a training could resume from the checkpoint of a step, or with another one that is whole."""
    spare = partial.folder.with_name("spare")
    spare.mkdir()
    try:
        for other in partial.folder.glob("checkpoint-*"):
            if int(other.stem.split("-")[1]) != step:
                other.rename(spare / other.name)
        return partial.load_checkpoint() is not None
    finally:
        for other in spare.iterdir():
            other.rename(partial.folder / other.name)
        spare.rmdir()


@pytest.fixture
def no_hdf5(files, monkeypatch):
    """HDF5 is given no file from here on."""

    def refuse(*_, **__):
        raise AssertionError("HDF5 was given a damaged file")

    assert all(sealed.is_taken() for sealed in files.every)
    with monkeypatch.context() as patch:
        patch.setattr(reader.h5py, "File", refuse)
        yield
    assert all(sealed.is_taken() for sealed in files.every)


def assert_noticed(sealed: Sealed, how: str) -> None:
    said = str(sealed.path)
    try:
        taken = sealed.is_taken()
    except DamagedError as error:
        taken, said = False, str(error)
    assert not taken, f"{sealed.path.name}: {how} was not noticed"
    assert str(sealed.path) in said
    assert "\n" not in said


@contextmanager
def written(path: Path, offset: int, data: bytes):
    """Other bytes at an offset for the time of the block."""
    with path.open("r+b", buffering=0) as file:
        before = os.pread(file.fileno(), len(data), offset)
        assert before != data
        length = os.fstat(file.fileno()).st_size
        os.pwrite(file.fileno(), data, offset)
        yield
        os.pwrite(file.fileno(), before, offset)
        os.ftruncate(file.fileno(), length)


def turns(files: Files, number: int) -> list[Sealed]:
    """Every file as often as the next."""
    return list(islice(cycle(files.every), number))


def test_there_is_a_file_of_every_kind(files):
    assert [sealed.path.name.rsplit("-", 1)[0] for sealed in files.artifacts] == [
        "dataset",
        "train-cls",
        "cams",
        "pseudo",
        "train-seg",
        "eval",
    ]
    assert (len(files.segments), len(files.checkpoints)) == (3, 2)
    assert all(sealed.is_taken() for sealed in files.every)


@pytest.mark.usefixtures("no_hdf5")
def test_a_flipped_bit_is_noticed(files):
    draw = Random(0)
    for turn, sealed in enumerate(turns(files, size(600, 20_000))):
        length = sealed.path.stat().st_size
        offset = draw.randrange(512) if turn % 10 == 0 else draw.randrange(length)
        bit = draw.randrange(8)
        flipped = bytes([_byte(sealed.path, offset) ^ 1 << bit])
        with written(sealed.path, offset, flipped):
            assert_noticed(sealed, f"bit {bit} of byte {offset} of {length}")


def _byte(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        return os.pread(file.fileno(), 1, offset)[0]


@pytest.mark.usefixtures("no_hdf5")
def test_a_truncated_file_is_noticed(files):
    draw = Random(1)
    for turn, sealed in enumerate(turns(files, size(100, 2_000))):
        length = sealed.path.stat().st_size
        kept = (
            draw.choice([0, 1, 511, 512, 513, length - 1, length - PAGE]) if turn % 4 == 0 else draw.randrange(length)
        )
        kept = max(0, kept)
        with sealed.path.open("rb") as file:
            end = os.pread(file.fileno(), length, kept)
        os.truncate(sealed.path, kept)
        assert_noticed(sealed, f"{kept} bytes of {length}")
        with sealed.path.open("r+b") as file:
            os.pwrite(file.fileno(), end, kept)


@pytest.mark.usefixtures("no_hdf5")
def test_a_page_of_zeros_is_noticed(files):
    draw = Random(2)
    for sealed in turns(files, size(50, 1_000)):
        data = sealed.path.read_bytes()
        pages = [start for start in range(0, len(data), PAGE) if any(data[start : start + PAGE])]
        start = draw.choice(pages)
        with written(sealed.path, start, bytes(len(data[start : start + PAGE]))):
            assert_noticed(sealed, f"zeros from {start} of {len(data)}")


@pytest.mark.usefixtures("no_hdf5")
def test_appended_bytes_are_noticed(files):
    draw = Random(3)
    for sealed in turns(files, size(50, 1_000)):
        length = sealed.path.stat().st_size
        count = draw.choice([1, 8, 512, PAGE, draw.randrange(1, 10_000)])
        with written(sealed.path, length, draw.choice([bytes(count), draw.randbytes(count)])):
            assert_noticed(sealed, f"{count} bytes after {length}")


def swaps(files: Files) -> list[tuple[Sealed, Sealed]]:
    """Every pair of files that one could take for each other, and more than that."""
    return [
        *combinations(files.artifacts, 2),
        *combinations(files.segments, 2),
        *combinations(files.checkpoints, 2),
        *zip(files.segments, files.artifacts, strict=False),
        *zip(files.checkpoints, files.segments, strict=False),
    ]


@pytest.mark.usefixtures("no_hdf5")
def test_swapped_files_are_noticed(files):
    pairs = swaps(files)
    assert len(pairs) >= 20
    for one, other in pairs * size(1, 8):
        _swap(one.path, other.path)
        assert_noticed(one, f"swapped with {other.path.name}")
        assert_noticed(other, f"swapped with {one.path.name}")
        _swap(one.path, other.path)


def _swap(one: Path, other: Path) -> None:
    spare = one.with_name("spare-file")
    one.rename(spare)
    other.rename(one)
    spare.rename(other)


@pytest.mark.parametrize(
    ("command", "upstream"),
    [
        (["cams", "--refs", "1"], "train-cls"),
        (["pseudo", "--background", "constant"], "cams"),
        (["train-seg", "--epochs", "1"], "pseudo"),
        (["eval", "--flip"], "train-seg"),
        (["show"], "eval"),
    ],
)
@pytest.mark.parametrize("where", [0.01, 0.5, 0.99], ids=["block", "middle", "end"])
def test_a_command_that_is_given_a_damaged_artifact_exits_with_4_and_one_line(
    chain, call, tmp_path, command, upstream, where
):
    store = copied(chain, tmp_path)
    path = next(artifact.path for artifact in store.artifacts() if artifact.stage == upstream)
    offset = 20 if where == 0.01 else int(where * path.stat().st_size)
    with written(path, offset, bytes([_byte(path, offset) ^ 64])):
        answer = call(*command, path.stem.split("-")[-1], cwd=tmp_path)
    if where == 0.99 and command == ["show"] and not answer.code:
        return  # it reads the manifest, which is whole
    assert answer.code == 4
    assert answer.out == "" or command == ["show"]  # which first shows what the manifest contains
    assert [line for line in answer.err.splitlines() if "error" in line] == answer.err.splitlines()[-1:]
    assert path.name in answer.err
