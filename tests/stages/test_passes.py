"""Passes through the backbone, counted: with the nearest references, shards together need one for each image."""

import json
import subprocess
import sys
from pathlib import Path

import counted_passes
import pytest
from run_commands import environment
from tiny_chain import NUM_TRAIN

from mcis_cli.store import open_store

SHARDS = 8


def shards(chain, store, scratch_mb):
    script = Path(counted_passes.__file__)
    command = [sys.executable, script, chain.folder, store, str(SHARDS), str(scratch_mb)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(OMP_NUM_THREADS="1"))
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def alone(chain, tmp_path_factory):
    """The id of what one process makes."""
    return counted_passes.run(chain.folder, tmp_path_factory.mktemp("alone") / ".mcis", None, 0)


@pytest.mark.slow
def test_eight_shards_that_share_a_folder_pass_each_image_once(chain, alone, tmp_path, tally):
    found = shards(chain, tmp_path / ".mcis", 1000)
    passes = [one for of_shard in found["passes"] for one in of_shard]
    tally.count(passes=len(passes), images=NUM_TRAIN)
    assert len(passes) == len(set(passes)) == NUM_TRAIN
    assert set(found["ids"]) == {alone}
    store = open_store(tmp_path / ".mcis")
    assert list((store.root / "partial").iterdir()) == list(store.scratch_folder.iterdir()) == []


@pytest.mark.slow
def test_shards_that_share_no_features_pass_only_their_own_images_and_references_again(chain, alone, tmp_path, tally):
    """A mean of each image is still computed once; beside it, a shard passes what its own images need, once each."""
    found = shards(chain, tmp_path / ".mcis", 0)
    total = sum(map(len, found["passes"]))
    tally.count(passes=total, images=NUM_TRAIN)
    assert set(found["ids"]) == {alone}
    maps = open_store(tmp_path / ".mcis").get("cams")
    catalogue = chain.images()
    config = counted_passes.CONFIG
    most = sum(1 + (config.refs + config.refs_without) * len(catalogue[one].labels) for one in maps.ids)
    assert NUM_TRAIN < total <= NUM_TRAIN + most
