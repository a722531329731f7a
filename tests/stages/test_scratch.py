"""Which features processes share, and who removes them; that they do share is in `test_features`."""

import os
import subprocess
import sys

import pytest
import torch
from run_commands import environment

from mcis_cli.stages.engine.scratch import Scratch, folder_name
from mcis_cli.store import open_store
from mcis_cli.store.upkeep.collection import Choice, collect
from mcis_cli.training.precision import describe_machine

VIEWS, INPUTS = {"image_size": 64, "embeds": False}, {"classifier": "1a", "images": "2b"}


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / ".mcis")


def tensors(seed=0):
    """As a network leaves them: bfloat16 with channels together, and float32."""
    torch.manual_seed(seed)
    features = torch.randn(1, 6, 3, 5).to(torch.bfloat16, memory_format=torch.channels_last)[0]
    return [features, torch.randn(7, 3, 5)]


def assert_kept(kept, originals):
    for found, original in zip(kept.distinct(), originals, strict=True):
        assert torch.equal(found, original)
        assert (found.dtype, found.shape, found.stride()) == (original.dtype, original.shape, original.stride())


def test_cards_of_one_kind_share_and_whatever_else_differs_does_not():
    machine = describe_machine(torch.device("cpu"), "fp32")
    card = {**machine, "device": "cuda:0", "device_name": "a card", "cuda": "12.8"}
    name = folder_name(VIEWS, INPUTS, card)
    assert folder_name(VIEWS, INPUTS, {**card, "device": "cuda:1"}) == name
    assert folder_name(VIEWS, INPUTS, {**card, "device": "cuda"}) == name
    others = [
        folder_name(VIEWS, INPUTS, machine),
        folder_name(VIEWS, INPUTS, {**card, "device": "cpu"}),
        folder_name(VIEWS, INPUTS, {**card, "device_name": "another"}),
        folder_name(VIEWS, INPUTS, {**card, "precision": "bf16"}),
        folder_name({**VIEWS, "embeds": True}, INPUTS, card),
        folder_name(VIEWS, {**INPUTS, "classifier": "1b"}, card),
    ]
    assert name not in others
    assert len(set(others)) == len(others)


def test_the_last_process_to_use_the_folder_removes_it(store):
    folder = store.scratch_folder / "features-1f"
    with Scratch(folder, 2**20) as first:
        first.put("a", tensors())
        with Scratch(folder, 2**20) as second:
            assert_kept(second.get("a"), tensors())
            second.put("b", tensors(1))
        assert_kept(first.get("b"), tensors(1))  # also what one wrote that has ended
    assert list(store.scratch_folder.iterdir()) == []


def leave_features(store):
    """A process that writes and is killed."""
    script = """
import os, signal, sys
from pathlib import Path
import torch
from mcis_cli.stages.engine.scratch import Scratch
Scratch(Path(sys.argv[1]), 2**20).put("a", [torch.arange(6.0)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    folder = store.scratch_folder / "features-1f"
    subprocess.run([sys.executable, "-c", script, folder], check=False, env=environment())
    assert len(list(folder.iterdir())) == 1
    return folder


@pytest.mark.slow
def test_what_a_killed_process_left_is_used_and_removed_by_the_next_of_its_kind(store):
    folder = leave_features(store)
    with Scratch(folder, 2**20) as scratch:
        assert_kept(scratch.get("a"), [torch.arange(6.0)])
    assert not folder.exists()


@pytest.mark.slow
def test_gc_removes_what_a_killed_process_left_and_nothing_that_is_used(store):
    folder = leave_features(store)
    choice = Choice(scopes=frozenset({"tmp"}))
    with Scratch(store.scratch_folder / "features-2f", 2**20) as used:
        used.put("a", tensors())
        (found,) = collect(store, choice, delete=True)
        assert (found.path, found.num_bytes > 24) == (folder, True)
        assert_kept(used.get("a"), tensors())
    assert list(store.scratch_folder.iterdir()) == []


def test_of_links_and_folders_of_others_nothing_in_them_is_removed(store, tmp_path):
    outside, strange = tmp_path / "outside", store.scratch_folder / "mine"
    for folder in (outside, strange):
        folder.mkdir()
        (folder / "secret").write_bytes(b"secret")
    for name in ("cams-0123456789abcdef.1-00", "features-1f"):
        (store.scratch_folder / name).symlink_to(outside)
    with Scratch(store.scratch_folder / "features-1f", 2**20):
        pass
    for _ in collect(store, Choice(scopes=frozenset({"tmp"})), delete=True):
        pass
    assert list(store.scratch_folder.iterdir()) == [strange]
    assert (strange / "secret").exists()
    assert (outside / "secret").exists()


def test_files_of_another_user_are_not_believed(store, monkeypatch):
    with Scratch(store.scratch_folder / "features-1f", 2**20) as scratch:
        scratch.put("a", tensors())
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
        assert scratch.get("a") is None
