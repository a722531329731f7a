"""Shards: however many do the work, in whatever order, beside whom, and whoever is killed, the artifact is the same."""

import random

import numpy as np
import pytest
import torch
from concurrent_processes import StoreProcess, image_ids, recipe, start_processes, work
from sizes import size
from tiny_chain import Heard, options

from mcis_cli.errors import UnfinishedError
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.engine.by_image import run_segments
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.evaluate import run as evaluate
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.store import open_store, segments

COUNT = 64 * 6 + 10  # seven segments


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The id of the artifact that a command without shards makes."""
    return work(str(tmp_path_factory.mktemp("whole") / ".mcis"), 1, COUNT)["id"]


def parts(count):
    return [[number, count] for number in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 2, 4, 9])
@pytest.mark.parametrize("seed", range(size(2, 20)))
def test_shards_one_after_the_other_in_any_order_make_the_same(tmp_path, whole, count, seed):
    order = random.Random(seed).sample(parts(count), count)
    answers = [work(str(tmp_path / ".mcis"), 1, COUNT, shard=shard) for shard in order]
    # Of nine, two have nothing to do: whoever does the last segment seals, and those after it find that done.
    assert [answer["path"] is not None for answer in answers] == sorted(
        answer["path"] is not None for answer in answers
    )
    assert answers[-1]["id"] == whole
    computed = [first for answer in answers for first in answer["computed"]]
    assert sorted(computed) == image_ids(COUNT)[::64]
    assert list((tmp_path / ".mcis" / "partial").iterdir()) == []


def test_a_shard_says_what_is_left_to_the_others(tmp_path):
    answer = work(str(tmp_path / ".mcis"), 1, COUNT, shard=[2, 4])
    assert (
        answer["left"]
        == "shard 2/4 is done; the other shards still compute 5 of 7 segments, and the last one seals the artifact"
    )
    again = work(str(tmp_path / ".mcis"), 1, COUNT, shard=[2, 4])
    assert (again["computed"], again["left"]) == ([], answer["left"])


@pytest.mark.slow
@pytest.mark.promise
@pytest.mark.parametrize("count", [2, 4])
def test_shards_at_the_same_time_make_the_same(tmp_path, whole, count):
    with start_processes(tmp_path, count) as workers:
        for number in range(size(3, 50)):
            store = tmp_path / f"store-{number}"
            open_store(store)
            for worker, shard in zip(workers, parts(count), strict=True):
                worker.send(act="work", store=str(store), seed=1, count=COUNT, shard=shard)
            answers = [worker.answer() for worker in workers]
            assert {answer["id"] for answer in answers if answer["path"]} == {whole}
            assert sorted(first for answer in answers for first in answer["computed"]) == image_ids(COUNT)[::64]
            assert list((store / "partial").iterdir()) == []
            assert list((store / "tmp").iterdir()) == []


@pytest.mark.slow
@pytest.mark.promise
def test_a_shard_that_was_killed_and_run_again_changes_nothing(tmp_path, whole):
    draw = random.Random(0)
    for number in range(size(3, 50)):
        store = tmp_path / f"store-{number}"
        open_store(store)
        with start_processes(tmp_path, 2) as workers:
            for worker, shard in zip(workers, parts(2), strict=True):
                worker.send(act="work", store=str(store), seed=1, count=COUNT, shard=shard, pause=0.001)
            survivor = draw.randrange(2)
            while len(list(store.glob("partial/*/segment-*"))) < draw.randrange(4):
                pass
            workers[1 - survivor].kill()
            answers = [workers[survivor].answer()]
            workers[1 - survivor] = StoreProcess(tmp_path, 9)
            workers[1 - survivor].send(act="work", store=str(store), seed=1, count=COUNT, shard=parts(2)[1 - survivor])
            answers.append(workers[1 - survivor].answer())
        assert answers[-1]["id"] == whole
        assert list((store / "tmp").glob("cams-*")) == []
        assert list((store / "partial").iterdir()) == []


@pytest.mark.slow
@pytest.mark.promise
@pytest.mark.parametrize("locks", [True, False])
def test_shards_of_other_counts_and_a_whole_run_beside_them_make_the_same(tmp_path, whole, locks):
    tasks = [None, [1, 2], [2, 2], [3, 3]]
    with start_processes(tmp_path, len(tasks)) as workers:
        for number in range(size(3, 50)):
            store = tmp_path / f"store-{number}"
            open_store(store)
            for worker, shard in zip(workers, tasks, strict=True):
                worker.send(act="work", store=str(store), seed=1, count=COUNT, shard=shard, pause=0.0003, locks=locks)
            answers = [worker.answer() for worker in workers]
            assert {answer["id"] for answer in answers if answer["path"]} == {whole}
            assert answers[0]["path"]
            assert all(answer["intact"] for answer in answers if answer["path"])
            assert list((store / "partial").iterdir()) == []


def test_a_segment_of_another_shard_that_is_damaged_is_done_again_by_the_one_that_seals(tmp_path, whole):
    store = tmp_path / ".mcis"
    work(str(store), 1, COUNT, shard=[1, 2])
    (segment,) = store.glob("partial/*/segment-000002.h5")
    segment.chmod(0o644)
    segment.write_bytes(segment.read_bytes()[:-1])
    answer = work(str(store), 1, COUNT, shard=[2, 2])
    assert answer["id"] == whole
    assert image_ids(COUNT)[128] in answer["computed"]


def test_a_shard_stops_when_the_artifact_is_sealed_beside_it(tmp_path):
    """And leaves nothing of what it wrote after that."""
    store, computed = open_store(tmp_path), []

    def compute(ids):
        computed.append(ids[0])
        if len(computed) == 1:
            work(str(tmp_path), 1, COUNT)
        return ((image_id, {"value": np.zeros(1, np.float32)}) for image_id in ids)

    done = run_segments(
        recipe(1),
        store,
        options(reporter=Heard(), shard=(1, 2)),
        schema={"value": ("float32", 1)},
        ids=image_ids(COUNT),
        compute=compute,
        meta=lambda: pytest.fail("sealed again"),
    )
    assert computed == [image_ids(COUNT)[0]]
    assert done.id == store.find(recipe(1)).id
    assert list((tmp_path / "partial").iterdir()) == []


# The stages, and the command


@pytest.mark.promise
@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4])
def test_maps_masks_and_scores_are_the_same_with_shards(chain, tmp_path, monkeypatch, count):
    monkeypatch.setattr(segments, "SEGMENT_SIZE", 1)
    settings, store = chain.settings(), open_store(tmp_path)
    stages = (("train-cls", cams.run, settings.cams), ("cams", pseudo.run, settings.pseudo))
    for upstream, run, config in (*stages, ("train-seg", evaluate.run, settings.eval)):
        inputs = Inputs(upstream=chain.made[upstream], data=chain.data)
        order = random.Random(count).sample(parts(count), count)
        for shard in order[:-1]:
            with pytest.raises(UnfinishedError, match=rf"shard {shard[0]}/{count} is done"):
                run(config, inputs, store, options(preset="quick", shard=tuple(shard)))
        made = run(config, inputs, store, options(preset="quick", shard=tuple(order[-1])))
        assert made.id == chain.made[made.stage].id


def test_the_command_prints_nothing_until_all_is_there(call, chain_copy, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_SIZE", 3)
    changed = ("pseudo", "--foreground-threshold", "0.41")
    first = call(*changed, "--shard", "2/2", cwd=chain_copy.folder)
    assert (first.code, first.out) == (0, ""), first.err
    assert first.err.splitlines()[-1] == (
        "mcis: pseudo: shard 2/2 is done; the other shards still compute 3 of 6 segments, and the last one seals the "
        "artifact"
    )
    second = call(*changed, "--shard", "1/2", cwd=chain_copy.folder)
    assert second.code == 0
    assert second.lines[0].endswith(".h5")
    again = call(*changed, "--shard", "2/2", cwd=chain_copy.folder)
    assert again.out == second.out
    assert "cached" in again.err
    assert call("eval", second.lines[0], "--shard", "1/2", "--min-miou", "1", cwd=chain_copy.folder).code == 0


@pytest.mark.slow
def test_parts_of_different_arithmetic_are_mixed_only_where_the_flag_says_so(call, chain_copy, monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT_SIZE", 3)
    changed = ("eval", "--set", "eval.scales=[0.5]")
    assert call(*changed, "--shard", "1/2", cwd=chain_copy.folder).out == ""
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        refused = call(*changed, "--shard", "2/2", cwd=chain_copy.folder)
        assert (refused.code, refused.out) == (2, "")
        assert f"threads {before}, " in refused.err
        assert "and the rest would be with " in refused.err
        assert "--mixed" in refused.err
        made = call(*changed, "--shard", "2/2", "--mixed", cwd=chain_copy.folder)
    finally:
        torch.set_num_threads(before)
    assert made.code == 0, made.err
    noted = open_store(chain_copy.folder / ".mcis").get(made.lines[0]).provenance["arithmetic"]
    assert [one["threads"] for one in noted] == [before, before + 1]


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", "", "01/2", "1/100000"])
def test_a_shard_that_cannot_be_is_told(call, tmp_path, shard):
    answer = call("cams", "--shard", shard, cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert "--shard 1/4 to 4/4" in answer.err
    assert list(tmp_path.iterdir()) == []
