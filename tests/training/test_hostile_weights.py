"""Weights and checkpoints that are out for harm: one line and the right exit code, and nothing in them is run."""

import io
import json
import os
import pickle
import struct
import tarfile
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_files import mutate
from limited_commands import CPU_SECONDS, call_limited, run_limited
from safetensors.torch import save
from sizes import size
from torch import nn

from mcis_cli.data.synthetic.image_set import write_synthetic
from mcis_cli.errors import DamagedError, WeightsError
from mcis_cli.store.format import user_block
from mcis_cli.training.checkpoints import pack, unpack
from mcis_cli.training.initial_weights import load_initial_weights

pytestmark = [pytest.mark.promise, pytest.mark.slow]

NUM_MUTANTS = size(200, 5000)
CANARY = "canary"


class Canary:
    """Makes a folder, where it is unpickled without care."""

    def __reduce__(self):
        return os.mkdir, (CANARY,)


def saved(content, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


STATE = {"features.0.weight": torch.arange(24.0).reshape(2, 3, 4), "features.0.bias": torch.ones(2)}


def deflated(content: bytes, more: int = 0) -> bytes:
    """The archive with its members compressed, and so many zeros after the values of the first tensor."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            with new.open(member.filename, "w") as file:
                file.write(old.read(member))
                for _ in range(more // 2**20 if member.filename.endswith("data/0") else 0):
                    file.write(bytes(2**20))
    return buffer.getvalue()


def of_a_million_members() -> bytes:
    member = struct.pack("<4s6H3I5H2I", b"PK\1\2", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, len(member) * 10**6, 4, 0)
    return b"PK\3\4" + member * 10**6 + end


def tar() -> bytes:
    """The oldest format of torch.save, which is unpacked into a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("storages", "tensors", "pickle"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    return buffer.getvalue()


def safetensors(head, data: bytes = b"") -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + data


def a_storage_of(count: int) -> bytes:
    """A file of the old format whose tensor says that it has so many values."""
    content = saved({"weight": torch.ones(77)}, legacy=True)
    return content.replace(b"KM", b"\x8a\x06" + count.to_bytes(6, "little"))


# By name of the file: what is in it.
HOSTILE = {
    "canary.pth": saved({"weight": Canary()}),
    "old-canary.pth": saved({"weight": Canary()}, legacy=True),
    "bare-canary.pth": pickle.dumps(Canary()),
    "python-2-canary.pth": pickle.dumps({"weight": Canary()}, protocol=0),
    "other-network.pth": saved(STATE),
    "nan.pth": saved({**STATE, "x": torch.tensor([1.0, float("nan")])}),
    "inf.pth": saved({**STATE, "x": torch.tensor([float("inf")])}),
    "nested.pth": saved({"model": STATE}),
    "list.pth": saved([torch.ones(2)]),
    "number.pth": saved(1),
    "text.pth": saved({"x": "text"}),
    "no-text.pth": saved({1: torch.ones(2)}),
    "long-name.pth": saved({"x" * 10_000: torch.ones(2)}),
    "markup.pth": saved({"[bold]\x1b[31m\n": torch.ones(2)}),
    "repeated.pth": saved({"x": torch.ones(1).expand(2**40)}),
    "meta.pth": saved({"x": torch.empty(2**40, device="meta")}),
    "complex.pth": saved({"x": torch.ones(2, dtype=torch.complex64)}),
    "float8.pth": saved({"x": torch.ones(2).to(torch.float8_e4m3fn)}),
    "sparse.pth": saved({"x": torch.eye(2).to_sparse()}),
    "deflated.pth": deflated(saved(STATE)),
    "bomb.pth": lambda: deflated(saved(STATE), more=2**30),
    "million.pth": of_a_million_members,
    "tar.pth": tar(),
    "storage.pth": a_storage_of(2**46),
    "empty.pth": b"",
    "short.pth": saved(STATE)[:500],
    "shorter.pth": saved(STATE)[:3],
    "old-short.pth": saved(STATE, legacy=True)[:200],
    "photo.pth": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "deep.pth": b"\x80\x02" + b"(" * 10**6,
    "empty.safetensors": b"",
    "huge-head.safetensors": struct.pack("<Q", 2**63) + bytes(100),
    "deep-head.safetensors": safetensors(b"[" * 10**6),
    "long-head.safetensors": safetensors(b"{" + b'"a":[[]],' * 10**6),
    "many.safetensors": safetensors(
        {f"{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(100_001)}
    ),
    "beyond.safetensors": safetensors({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
    "overlap.safetensors": safetensors(
        {n: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for n in "ab"}, bytes(4)
    ),
    "nan.safetensors": save({"x": torch.tensor([float("nan")])}),
    "other-network.safetensors": save(STATE),
    "pickle.safetensors": pickle.dumps(Canary()),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    write_synthetic(folder / "shapes", num_train=4, num_val=2, num_classes=3, size=(48, 72), seed=1)
    for name, content in HOSTILE.items():
        (folder / name).write_bytes(content() if callable(content) else content)
    (folder / "folder.pth").mkdir()
    os.mkfifo(folder / "pipe.pth")
    (folder / "device.pth").symlink_to("/dev/zero")
    (folder / "nothing.pth").symlink_to("nothing")
    return folder


COMMANDS = {
    "train-cls": ("train-cls", "shapes", "--preset", "quick", "--weights"),
    "train-seg": ("train-seg", "--data", "shapes", "--supervision", "full", "--preset", "quick", "--weights"),
    "import": ("import", "--backbone", "lite0", "--weights"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", [*HOSTILE, "folder.pth", "pipe.pth", "device.pth", "nothing.pth"])
def test_hostile_weights_are_one_line_and_2(place, name, command, tally):
    ended = run_limited([*COMMANDS[command], name], place)
    told = [line for line in ended.err.splitlines() if line.startswith("mcis: error:")]
    assert ended.code == 2, f"{ended.code} {ended.err[-800:]}"
    assert len(told) == 1
    assert name in told[0]
    assert len(told[0]) < 1000
    assert "\x1b" not in ended.err
    assert not (place / CANARY).exists()
    assert ended.megabytes < 1024
    tally.count(files=1)


def mutated(content: bytes, draw: np.random.Generator) -> bytes:
    return mutate(bytes(user_block.SIZE) + content, draw)[user_block.SIZE :]


@pytest.mark.parametrize("kind", ["zip", "old", "safetensors"])
def test_mutants_of_weights_load_or_are_refused(kind, tmp_path, tally):
    ended = call_limited(load_mutants, kind, NUM_MUTANTS, folder=tmp_path)
    assert ended.code == 0, f"at mutant {(tmp_path / 'at').read_text()}: {ended.err[-1000:]}"
    tally.count(mutants=NUM_MUTANTS)


def load_mutants(kind: str, count: int) -> None:
    """Load mutants of good weights."""
    warnings.simplefilter("ignore")
    content = {"zip": saved(STATE), "old": saved(STATE, legacy=True), "safetensors": save(STATE)}[kind]
    path = Path("mutant.safetensors" if kind == "safetensors" else "mutant.pth")
    for number in range(count):
        Path("at").write_text(str(number))
        path.write_bytes(mutated(content, np.random.default_rng(number)))
        started = time.process_time()
        try:
            for tensor in load_initial_weights("vgg16", path).state.values():
                float(tensor.double().sum())
        except WeightsError as error:
            refused = str(error)
        else:
            refused = ""
        assert "\n" not in refused, refused
        assert time.process_time() - started < CPU_SECONDS


# Checkpoints, in `partial/` of a store that came from elsewhere: with a right digest.


def training():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(2, 3, 7, 5)).sum().backward()
    optimizer.step()
    return model, optimizer


def changed(**parts):
    """A good checkpoint with parts replaced, or changed by a function."""
    state = torch.load(io.BytesIO(pack(*training(), step=3)), weights_only=True)
    for name, part in parts.items():
        state[name] = part(state[name]) if callable(part) else part
    return saved(state)


def with_entry(index, entries):
    return lambda state: {**state, index: entries}


CHECKPOINTS = {
    "canary": saved({"format": 1, "step": 1, "model": {}, "optimizer": Canary()}),
    "bare canary": pickle.dumps(Canary()),
    "bytes": b"anything",
    "nothing": b"",
    "list": saved([1]),
    "other format": changed(format=2),
    "no model": saved({"format": 1, "step": 1, "optimizer": {}}),
    "more": changed(more=1),
    "list as model": changed(model=[1]),
    "list as optimizer": changed(optimizer=[1]),
    "text as step": changed(step="3"),
    "truth as step": changed(step=True),
    "negative step": changed(step=-1),
    "huge step": changed(step=2**70),
    "other network": changed(model=lambda state: {**state, "more": torch.ones(1)}),
    "number in the network": changed(model=lambda state: {**state, "0.bias": 1}),
    "other shape": changed(model=lambda state: {**state, "0.bias": torch.ones(5)}),
    "other dtype": changed(model=lambda state: {**state, "0.bias": torch.ones(4, dtype=torch.complex64)}),
    "whole numbers": changed(model=lambda state: {**state, "0.bias": torch.ones(4, dtype=torch.int64)}),
    "nan": changed(model=lambda state: {**state, "0.bias": torch.full((4,), float("nan"))}),
    "inf": changed(model=lambda state: {**state, "0.bias": torch.full((4,), float("inf"))}),
    "repeated": changed(model=lambda state: {**state, "0.bias": torch.ones(1).expand(4)}),
    "meta": changed(model=lambda state: {**state, "0.bias": torch.empty(4, device="meta")}),
    "index beyond": changed(optimizer=with_entry(99, {"momentum_buffer": torch.ones(4)})),
    "index no number": changed(optimizer=with_entry("0", {"momentum_buffer": torch.ones(4)})),
    "negative index": changed(optimizer=with_entry(-1, {"momentum_buffer": torch.ones(4)})),
    "entries no mapping": changed(optimizer=with_entry(0, [1])),
    "momentum of nan": changed(optimizer=with_entry(1, {"momentum_buffer": torch.full((4,), float("nan"))})),
    "momentum of another shape": changed(optimizer=with_entry(1, {"momentum_buffer": torch.ones(7)})),
    "momentum of text": changed(optimizer=with_entry(1, {"momentum_buffer": "text"})),
    "name no text": changed(optimizer=with_entry(1, {1: torch.ones(4)})),
    "bomb": lambda: deflated(changed(), more=2**28),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CHECKPOINTS)
def test_hostile_checkpoints_are_refused_and_change_nothing(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, optimizer = training()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    content = CHECKPOINTS[case]
    momentum = [state["momentum_buffer"].clone() for state in optimizer.state.values()]
    with pytest.raises(DamagedError, match="a checkpoint does not fit this training: found ") as error:
        unpack(content() if callable(content) else content, model, optimizer)
    assert "\n" not in str(error.value)
    assert not (tmp_path / CANARY).exists()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    after = [state["momentum_buffer"] for state in optimizer.state.values()]
    assert all(torch.equal(*pair) for pair in zip(momentum, after, strict=True))


def test_a_good_checkpoint_is_taken():
    assert unpack(changed(), *training()) == 3


@pytest.mark.filterwarnings("ignore")
def test_mutants_of_checkpoints_are_taken_or_refused(tally):
    good = changed()
    for number in range(NUM_MUTANTS):
        model, optimizer = training()
        try:
            unpack(mutated(good, np.random.default_rng(number)), model, optimizer)
        except DamagedError as error:
            refused = str(error)
        else:
            refused = ""
        assert "\n" not in refused
        assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())
    tally.count(mutants=NUM_MUTANTS)


SMALL = ("--preset", "quick", "--epochs", "1", "--set", "train-cls.image_size=64")


@pytest.mark.parametrize("case", ["canary", "nan", "other network"])
def test_a_training_that_meets_one_in_partial_is_one_line_and_4(place, case, tmp_path):
    store = tmp_path / "store"
    ended = call_limited(leave, case, str(place / "shapes"), str(store), folder=place)
    assert ended.code == 0, ended.err
    ended = run_limited(["train-cls", "shapes", *SMALL, "--store", store], place)
    assert not (place / CANARY).exists()
    assert ended.code == 4, ended.err
    assert "a checkpoint does not fit this training" in ended.err


def leave(case: str, shapes: str, store: str) -> None:
    """Put a hostile checkpoint where the command that the test calls looks for its own."""
    from mcis_cli.cli.app import run
    from mcis_cli.stages.train_cls import run as train_cls

    def train(recipe, prepare, meta, store, options, ranks):
        with store.begin(recipe) as partial:
            partial.save_checkpoint(1, CHECKPOINTS[case])
        raise SystemExit(0)

    train_cls.train = train
    run(["train-cls", "shapes", *SMALL, "--store", store], lambda: False)
