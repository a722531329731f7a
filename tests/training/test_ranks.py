"""Several processes that train together: they do what one would with a batch as large as theirs together, the same
bits each time, and one that dies takes the others along, and nothing that was done.
"""

import glob
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import recipes
import torch
import two_ranks
from tiny_chain import options, sealed
from two_ranks import CASES, Torchrun, gradients, torchrun

from mcis_cli.config import TrainClsConfig, TrainSegConfig
from mcis_cli.errors import UsageError
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.train_cls import run as train_cls
from mcis_cli.stages.train_seg import run as train_seg
from mcis_cli.store import Recipe, open_store
from mcis_cli.training.ranks import Ranks

pytestmark = pytest.mark.heavy

ROOT = str(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def of_two(chain, tmp_path_factory):
    """The gradients of each case, of two ranks with a batch of two, as each rank has them."""
    folder = tmp_path_factory.mktemp("gradients")
    answer = Torchrun(two_ranks.__file__, chain.folder, folder, cwd=folder, PYTHONPATH=ROOT).finish()
    assert answer.code == 0, answer.err
    assert answer.out == ""
    return [torch.load(folder / f"{number}.pt") for number in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_averaged_gradients_are_those_of_one_process_at_double_batch(chain, of_two, case):
    """Also of the last step, in which one image is left for both."""
    expected = gradients(chain, case, 4)
    assert len(expected) == 2
    for number in range(2):
        found = of_two[number][case]
        assert len(found) == len(expected)
        for there, here in zip(found, expected, strict=True):
            assert len(there) == len(here)
            for tensor, wanted in zip(there, here, strict=True):
                torch.testing.assert_close(tensor, wanted, rtol=0, atol=1e-6 * max(1e-3, float(wanted.abs().max())))


@pytest.mark.slow
def test_running_statistics_are_alike_on_all_ranks_and_after_an_interruption(of_two):
    """Those of DeepLab-V3's head, which learns, and which a lone crop is normalised by."""
    (whole, again), (other, other_again) = (of_two[number]["again"] for number in range(2))
    means = [name for name in whole if name.startswith("head.") and name.endswith("running_mean")]
    assert len(means) == 7
    assert all(whole[name].abs().max() > 1e-3 for name in means)  # and no longer what they begin with
    for name, tensor in whole.items():
        assert torch.equal(tensor, again[name]), name
        if tensor.is_floating_point():
            assert torch.equal(tensor, other[name]), name
            assert torch.equal(tensor, other_again[name]), name


@pytest.mark.parametrize("length", range(9))
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_parts_of_a_step_are_all_of_it_and_even(length, count):
    parts = [Ranks(number, count).part(list(range(length))) for number in range(count)]
    assert [item for part in parts for item in part] == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


# The commands

TOML = """\
preset = "quick"
[data]
root = "{root}"
[train-cls]
image_size = 32
epochs = {epochs}
batch_pairs = {batch}
frozen_stages = 5
precision = "fp32"
"""
EPOCHS = 6  # of eight steps; checkpoints at 10, 20, 30 and 40


def folder_of(chain, folder, batch=1):
    folder.mkdir()
    (folder / "mcis.toml").write_text(TOML.format(root=chain.folder / "shapes", epochs=EPOCHS, batch=batch))
    open_store(folder / ".mcis")
    return folder


@pytest.fixture(scope="module")
def made(chain, tmp_path_factory):
    """A folder in which two processes have trained a classifier, what they said, and the artifact."""
    folder = folder_of(chain, tmp_path_factory.mktemp("made") / "work")
    answer = torchrun("train-cls", "--workers", "0", cwd=folder)
    assert answer.code == 0, answer.err
    return folder, answer, open_store(folder / ".mcis").get(answer.lines[0])


def has_checkpoint(folder):
    """Whether a training has kept one; folders of other stages may go while they are looked into."""
    return bool(glob.glob(f"{folder}/.mcis/partial/*/checkpoint-*"))


def assert_alike(found, wanted):
    """The same weights but for rounding, on their way from the same start."""
    for name, tensor in wanted.tensors().items():
        np.testing.assert_allclose(found.tensors()[name], tensor, rtol=0, atol=1e-4 * max(1, np.abs(tensor).max()))


@pytest.mark.slow
def test_two_processes_train_what_one_trains_with_a_batch_twice_as_large(chain, made, tmp_path):
    folder, answer, artifact = made
    assert answer.out.splitlines() == [str(artifact.path)]
    assert answer.err.splitlines()[0] == "mcis: train-cls: 2 processes, by RANK and WORLD_SIZE"
    assert answer.err.count("done in") == 1
    assert artifact.manifest["recipe"]["config"]["processes"] == 2
    assert (artifact.meta["processes"], artifact.meta["effective_batch"]) == (2, 2)
    changes = {"image_size": 32, "epochs": EPOCHS, "batch_pairs": 2, "frozen_stages": 5}
    alone = train_cls.run(
        chain.settings(train_cls=changes).train_cls, Inputs(data=chain.data), open_store(tmp_path), options()
    )
    assert_alike(artifact, alone)
    logs = [one.log_path.read_text().splitlines() for one in (artifact, alone)]
    assert len(logs[0]) == len(logs[1])
    maps = cams.run(chain.settings().cams, Inputs(upstream=artifact), open_store(folder / ".mcis"), options())
    assert maps.ids


@pytest.mark.slow
def test_what_is_done_is_found_by_all_and_by_one(made, call):
    folder, answer, _ = made
    again = torchrun("train-cls", cwd=folder)
    assert (again.code, again.out) == (0, answer.out)
    assert "cached" in again.err
    one = call("train-cls", "--set", "train-cls.processes=2", cwd=folder)
    assert (one.code, one.out) == (0, answer.out)
    told = call("show", "--why", "train-cls", cwd=folder)
    assert "processes" in told.out
    assert "2, now 1" in told.out


@pytest.mark.slow
@pytest.mark.promise
@pytest.mark.parametrize("end", ["kill the first", "kill the second", "stop"])
def test_one_that_dies_takes_the_others_along_and_the_next_run_makes_the_same(chain, made, tmp_path, end):
    folder = folder_of(chain, tmp_path / "work")
    command = Torchrun("-m", "mcis_cli", "train-cls", "--workers", "0", cwd=folder)
    while not has_checkpoint(folder) and command.is_at_work():
        time.sleep(0.001)
    if end == "stop":
        command.send(signal.SIGTERM)
    else:
        command.kill(0 if end == "kill the first" else 1)
    answer = command.finish()
    assert answer.code != 0
    assert answer.out == ""
    said = [line for line in answer.err.splitlines() if line.startswith("mcis: error") or "stopped:" in line]
    assert len(said) <= 1, answer.err
    if said and end != "stop":
        assert "cannot continue without the others" in said[0] or "run again by torchrun as before" in said[0]
    assert "mcis: bug" not in answer.err
    assert not sealed(folder / ".mcis")
    assert has_checkpoint(folder)
    again = torchrun("train-cls", "--workers", "2" if end == "stop" else "0", "-q", cwd=folder)
    assert (again.code, again.out.strip()) == (0, made[2].id), again.err
    assert not list(folder.glob(".mcis/partial/*"))
    assert not list(folder.glob(".mcis/tmp/*"))


@pytest.mark.slow
def test_all_wait_for_who_works_on_the_same(chain, made, programs, tmp_path):
    folder = folder_of(chain, tmp_path / "work")
    recipe = made[2].manifest["recipe"]
    mine = Recipe("train-cls", recipe["version"], recipe["config"], recipe["inputs"])
    assert mine.key == made[2].key
    with open_store(folder / ".mcis").begin(mine):
        command = Torchrun("--no-python", programs / "mcis", "train-cls", "--workers", "0", cwd=folder)
        while "waiting for process" not in command.written()[1] and command.is_at_work():
            time.sleep(0.01)
    answer = command.finish()
    assert answer.code == 0, answer.err
    assert open_store(folder / ".mcis").get(answer.lines[0]).id == made[2].id


@pytest.mark.slow
def test_ranks_that_would_train_different_things_are_told_so(chain, programs, tmp_path):
    folder = folder_of(chain, tmp_path / "work")
    script = f"exec {programs}/mcis train-cls --seed $RANK"
    answer = Torchrun("--no-python", "bash", "-c", script, cwd=folder).finish()
    assert answer.code != 0
    assert "mcis: error (rank 1): rank 1 would train something else than rank 0: found the recipe" in answer.err
    assert not sealed(folder / ".mcis")


@pytest.mark.slow
def test_networks_too_are_trained_by_two(chain, tmp_path):
    masks = chain.made["pseudo"]
    flags = [f"--set=train-seg.{name}" for name in ("crop=33", "frozen_stages=5", "batch_size=2", "epochs=2")]
    shutil.copy(chain.folder / "mcis.toml", tmp_path)
    answer = torchrun(
        *("train-seg", masks.path, "--data", chain.folder / "shapes", *flags, "--store", tmp_path / "s"),
        cwd=tmp_path,
    )
    assert answer.code == 0, answer.err
    (path,) = answer.lines
    changes = {"crop": 33, "frozen_stages": 5, "batch_size": 4, "epochs": 2}
    alone = train_seg.run(
        chain.settings(train_seg=changes).train_seg,
        Inputs(upstream=masks, data=chain.data),
        open_store(tmp_path / "one"),
        options(),
    )
    assert_alike(open_store(tmp_path / "s").get(path), alone)


def test_one_process_is_what_a_recipe_means_that_says_nothing(chain):
    images = chain.images().split("train")
    for make in (
        lambda **given: recipes.train_cls(TrainClsConfig(**given), images, "weights"),
        lambda **given: recipes.train_seg(TrainSegConfig(**given), "masks", images, "weights"),
    ):
        assert "processes" not in make(processes=1).config
        assert make(processes=2).config["processes"] == 2
        assert make(processes=2).key != make().key


def test_too_few_processes_are_told_how_to_start(chain, tmp_path):
    settings = chain.settings(train_cls={"processes": 3}).train_cls
    with pytest.raises(UsageError, match="processes is 3, found 1 at work: start it by torchrun --nproc-per-node 3"):
        train_cls.run(settings, Inputs(data=chain.data), open_store(tmp_path), options())


def test_a_chain_and_a_pipe_are_for_one_process(chain, call, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    answer = call("run", cwd=chain.folder)
    assert answer.code == 2
    assert "give torchrun a single stage" in answer.err
    answer = call("train-seg", "-", cwd=chain.folder)
    assert answer.code == 2
    assert "train-seg cannot read a pipe in several processes" in answer.err
