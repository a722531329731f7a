"""Processes that want the same at the same time, and one that removes what nothing needs while others work."""

import shutil

import pytest
from concurrent_processes import image_ids, start_processes
from run_commands import shell
from sizes import size
from store_makers import IDS, SCHEMA, recipe, records
from tiny_chain import options

from mcis_cli.config import PseudoConfig
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.store import open_store

COUNT = 64 * 3 + 10  # four segments
PROCESSES, ROUNDS = size((4, 5), (16, 50))


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    with start_processes(tmp_path_factory.mktemp("processes"), PROCESSES) as workers:
        yield workers


@pytest.mark.promise
@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_all_that_want_the_same_are_given_the_same(workers, tmp_path, locks):
    store = open_store(tmp_path / ".mcis")
    pids = {worker.pid for worker in workers}
    waited = 0
    for seed in range(ROUNDS):
        for worker in workers:
            worker.send(act="work", store=str(store.root), seed=seed, count=COUNT, locks=locks, pause=0.0003)
        answers = [worker.answer() for worker in workers]
        assert len({answer["path"] for answer in answers}) == 1
        assert all(answer["intact"] for answer in answers)
        computed = sorted(first for answer in answers for first in answer["computed"])
        if locks:
            assert computed == image_ids(COUNT)[::64]
        assert set(computed) == set(image_ids(COUNT)[::64])
        notes = [note for answer in answers for note in answer["notes"]]
        assert {int(note.removeprefix("waiting for process ")) for note in notes} <= pids | {0}
        waited += len(notes)
    assert bool(waited) == locks
    assert len(list((store.root / "artifacts").iterdir())) == ROUNDS
    assert len(list((store.root / "keys").glob("*/*"))) == ROUNDS
    for folder in ("partial", "tmp"):
        assert list((store.root / folder).iterdir()) == []


@pytest.mark.slow
def test_of_two_commands_one_works_and_the_other_waits_and_finds_it_done(chain_copy):
    """Both print the same line; or the second was so late that it had not to wait."""
    line = "mcis pseudo --foreground-threshold 0.43"
    answer = shell(f"{line} & {line} & wait", cwd=chain_copy.folder)
    assert answer.code == 0, answer.err
    assert len(answer.lines) == 2
    assert len(set(answer.lines)) == 1
    assert answer.err.count("done in") + answer.err.count(": cached, ") == 2


@pytest.mark.promise
@pytest.mark.slow
def test_what_a_stage_works_on_never_vanishes_while_all_that_is_not_needed_does(chain, workers, tmp_path):
    """Maps come, and nothing keeps them but the stage that makes masks of them; the masks are as little needed."""
    ended, wanted = tmp_path / "ended", size(6, 1000)
    source, data = chain.made["cams"].path, chain.folder / "shapes"
    inputs = Inputs(upstream=chain.made["cams"], data=chain.data)
    expected = pseudo.run(PseudoConfig(), inputs, chain.store, options()).id
    store = open_store(tmp_path / ".mcis")
    with store.begin(recipe()) as left:  # and never gone on with
        left.write_segment(0, SCHEMA, records(IDS[:2]))
    *stages, collector = workers[:4]
    for worker in stages:
        worker.send(
            act="stage", store=str(store.root), source=str(source), data=str(data), ended=str(ended), expected=expected
        )
    collector.send(act="collect", store=str(store.root), artifacts=wanted)
    removed = collector.answer()
    ended.touch()
    answers = [worker.answer() for worker in stages]
    assert sum(answer["vanished"] for answer in answers) == 0
    assert all(answer["made"] for answer in answers)
    # And yet what was needed no more did go.
    assert removed["artifacts"] >= wanted
    assert removed["partial"] > 0


@pytest.mark.promise
@pytest.mark.slow
def test_the_command_removes_nothing_under_a_stage(chain_copy):
    """Nothing names the classifier any more as soon as the stage has begun."""
    for artifact in chain_copy.made.values():
        artifact.close()
    for name in chain_copy.store.names():  # of other tests
        chain_copy.store.unname(name)
    folder, classifier = chain_copy.folder, chain_copy.made["train-cls"].path
    shutil.copytree(folder, folder.with_name("spare"))
    for seed in range(size(2, 40)):
        answer = shell(
            f"""
            mcis name needed {classifier.stem} > /dev/null
            while [ ! -e ended ]; do mcis gc --all --delete --no-keep-config; done > gone.txt 2> gc.txt &
            mcis cams {classifier.stem} --seed {seed} --image-size 64 --data shapes & stage=$!
            until [ -e .mcis/partial/cams-*/recipe.json ] || ! kill -0 $stage 2> /dev/null; do sleep 0.01; done
            mcis name --delete needed
            wait $stage; code=$?
            touch ended; wait; rm ended
            exit $code
            """,
            cwd=folder,
        )
        assert answer.code == 0, answer.err
        assert answer.lines[-1].endswith(".h5")
        assert "error" not in (folder / "gc.txt").read_text()
        assert shell("mcis gc --all --delete --no-keep-config", cwd=folder).code == 0
        assert not classifier.exists()
        assert shell("mcis merge ../spare", cwd=folder).code == 0
