"""The same bits: twice, with other workers and another cache, after kills; each stage in a process of its own.

Commands keep to one thread (`run_commands.environment`): the number of threads changes bits, as does the batch size.
"""

import json
import signal

import pytest
from sizes import size
from stage_folders import STAGES, Clock

pytestmark = [pytest.mark.promise, pytest.mark.slow]
WORKERS = size((2,), (1, 2, 3, 5))
CACHES = size((1,), (1, 2, 16, 4096))  # MiB; the features of the set take more than one
KILLS = size(2, 10)


def made(place, *flags):
    """The id of what a stage makes."""
    command = place.start(*flags)
    assert command.wait() == 0, command.err
    place.check_sealed()
    answer = json.loads(command.out)
    assert not answer["cached"]
    return answer["id"]


@pytest.mark.parametrize("stage", STAGES)
def test_twice_is_the_same(stage_folders, stage, tmp_path, tally):
    for number in range(size(1, 5)):
        place = stage_folders.copy(stage, tmp_path / str(number))
        assert made(place) == stage_folders.made[stage,]["id"]
        tally.count(runs=1)


@pytest.mark.parametrize("stage", STAGES)
def test_workers_change_nothing(stage_folders, stage, tmp_path, tally):
    for workers in WORKERS:
        place = stage_folders.copy(stage, tmp_path / str(workers))
        assert made(place, "--workers", str(workers)) == stage_folders.made[stage,]["id"]
        tally.count(runs=1)


@pytest.mark.parametrize("stage", ["pseudo", "eval"])
def test_worker_processes_change_nothing(stage_folders, stage, tmp_path, tally):
    stage_folders.expect(stage, ("--crf",))
    for workers in WORKERS:
        place = stage_folders.copy(stage, tmp_path / str(workers))
        assert made(place, "--crf", "--workers", str(workers)) == stage_folders.made[stage, "--crf"]["id"]
        tally.count(runs=1)


def test_the_size_of_the_cache_changes_nothing(stage_folders, tmp_path, tally):
    for cache in CACHES:
        place = stage_folders.copy("cams", tmp_path / str(cache))
        assert made(place, "--cache-mb", str(cache)) == stage_folders.made["cams",]["id"]
        tally.count(runs=1)


@pytest.mark.parametrize("stage", STAGES)
def test_kills_with_other_workers_in_between_change_nothing(stage_folders, stage, tmp_path, tally):
    """Again and again the same work is killed, and gone on with by another number of workers."""
    clock = Clock(stage_folders.seconds[stage] / 2, stage)
    place = stage_folders.copy(stage, tmp_path / "0")
    number = 0
    while tally.facts.get("during", 0) < KILLS:
        assert number < 20 * KILLS, f"too few kills hit the work: {tally.facts}"
        command = place.start("--workers", str(2 * (number % 2)))
        clock.wait()
        command.send(signal.SIGKILL)
        command.wait()
        number += 1
        moment = place.moment()
        clock.learn(moment)
        tally.count(kills=1, **{moment: 1})
        if moment == "after":
            place.finish()
            place = stage_folders.copy(stage, tmp_path / str(number))
    place.finish()
