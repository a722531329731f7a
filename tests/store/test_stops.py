"""Ctrl-C and SIGTERM at random moments: exit code, one line that says how to go on, no process left, nothing lost."""

import json
import shlex
import signal
import time
from random import Random

import pytest
from sizes import LONG, size
from stage_folders import STAGES, TRAININGS, Clock, found_done

pytestmark = [pytest.mark.promise, pytest.mark.slow, pytest.mark.heavy]
SIGNALS = [signal.SIGINT, signal.SIGTERM]
STOPS = size(1, 50)
FEWER = size(1, 50)  # at moments that are chosen
REAL = 3  # each so many, a real command, imports and all, of these stages:
REAL_STAGES = size(("train-cls",), STAGES)
PROMISED = 5  # seconds
PATIENCE = PROMISED if LONG else 60  # a machine that is busy with something else shall fail no test of every day


def stop(command, number, tally, group=False):
    """Send a signal and check how the command ends; returns whether it was stopped, and not done before."""
    began = time.monotonic()
    (command.send_to_group if group else command.send)(number)
    code = command.wait(PATIENCE)
    seconds = time.monotonic() - began
    assert not command.left_behind()
    lines = command.err.splitlines()
    said = [line for line in lines if line.startswith("mcis: stopped: ")]
    if code == 0:  # done before the signal
        assert json.loads(command.out)["id"]
        assert not said
        tally.count(done=1)
        return False
    if code == -number:  # Python itself was not up yet, and nothing of ours was there to answer
        assert not said
        assert "cli/app.py" not in command.err
        tally.count(boot=1)
        return True
    assert code == 128 + number, command.err
    wanted = shlex.join(["mcis", *command.arguments])
    assert lines[-1] == f"mcis: stopped: finished work is kept; to resume, run again: {wanted}"
    assert len(said) == 1
    assert "Traceback" not in command.err
    assert "Exception ignored" not in command.err
    assert not command.out or json.loads(command.out)["id"]  # the line was out already
    tally.count(stopped=1, most_seconds=round(seconds, 2))
    return True


def check(place, *flags):
    """Nothing sealed has changed, and the next run resumes and ends with the same id."""
    place.check_sealed()
    moment, finished = place.moment(), place.finished()
    again = place.finish(*flags)
    if moment != "after":
        assert (found_done(again) or 0) == finished
    place.remove()
    return moment


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_at_a_random_moment_stops_a_stage_and_the_next_run_makes_the_same(
    stage_folders, stage, number, tmp_path, tally
):
    clocks = {real: stage_folders.clock(stage, real, str(number)) for real in (False, True)}
    count = 0
    while tally.facts.get("stopped", 0) < STOPS:
        assert count < 10 * STOPS, f"too few signals come in time: {tally.facts}"
        place, real = stage_folders.copy(stage, tmp_path / str(count)), count % REAL == 0 and stage in REAL_STAGES
        command = place.start(real=real)
        clocks[real].wait()
        stop(command, number, tally, group=count % 2 == 0)
        moment = check(place)
        clocks[real].learn(moment)
        tally.count(signals=1, real=real, **{moment: 1})
        count += 1


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("stage", ["pseudo", "eval"])
def test_workers_of_a_stage_that_is_stopped_leave_too(stage_folders, stage, number, tmp_path, tally):
    """From the start of the first worker to the end of the work; the signal goes to the group, as from a terminal."""
    flags = ("--crf", "--workers", "2")
    stage_folders.expect(stage, flags)
    draw = Random(f"{stage} {number}")
    for count in range(FEWER):
        place = stage_folders.copy(stage, tmp_path / str(count))
        command = place.start(*flags, real=count % REAL == 1)
        wait_until(lambda command=command: command.children() > 1, command)  # the first one tracks resources
        time.sleep(draw.random() * 2)
        stop(command, number, tally, group=True)
        tally.count(signals=1)
        check(place, *flags)


@pytest.mark.parametrize("stage", ["pseudo", "eval"])
def test_workers_of_a_stage_that_is_killed_leave_too(stage_folders, stage, tmp_path, tally):
    flags = ("--crf", "--workers", "2")
    stage_folders.expect(stage, flags)
    draw = Random(stage)
    for count in range(FEWER):
        place = stage_folders.copy(stage, tmp_path / str(count))
        command = place.start(*flags)
        wait_until(lambda command=command: command.children() > 1, command)
        time.sleep(draw.random() * 2)
        command.send(signal.SIGKILL)
        assert command.wait() in (-signal.SIGKILL, 0)
        assert not command.left_behind()
        tally.count(kills=1)
        check(place, *flags)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_while_the_artifact_is_sealed_leaves_all_or_nothing(stage_folders, stage, number, tmp_path, tally):
    draw = Random(f"{stage} {number}")
    for count in range(FEWER):
        place = stage_folders.copy(stage, tmp_path / str(count))
        command = place.start()
        wait_until(lambda place=place: is_sealing(place), command)
        time.sleep(draw.random() * 0.1)
        stop(command, number, tally)
        tally.count(signals=1, **{check(place): 1})


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_torch_is_imported_is_answered_too(stage_folders, number, tmp_path, tally):
    draw = Random(int(number))
    for count in range(FEWER):
        place = stage_folders.copy("train-cls", tmp_path / str(count))
        command = place.start(real=True)
        wait_until(lambda command=command: command.has_loaded("libtorch_cpu"), command)
        time.sleep(draw.random())
        assert stop(command, number, tally)
        tally.count(signals=1)
        check(place)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_chain_that_is_stopped_goes_on(stage_folders, number, tmp_path, tally):
    clock = Clock(sum(stage_folders.seconds[stage] for stage in STAGES) / 2, str(number))
    place = stage_folders.copy("train-cls", tmp_path / "work")
    while tally.facts.get("stopped", 0) < size(2, 50):
        assert tally.facts.get("signals", 0) < size(20, 500), f"too few signals come in time: {tally.facts}"
        command = place.start(command="run")
        clock.wait()
        stopped = stop(command, number, tally)
        place.check_sealed()
        tally.count(signals=1)
        if not stopped:
            clock.learn("after")
            place.remove()
            place = stage_folders.copy("train-cls", tmp_path / "work")
    command = place.start(command="run")
    assert command.wait() == 0, command.err
    assert json.loads(command.out)["id"] == stage_folders.made["eval",]["id"]


def wait_until(condition, command):
    """Wait until a condition holds, or the command has ended: then it is for the test to see that."""
    until = time.monotonic() + 300
    while not condition() and time.monotonic() < until and not command.has_ended():
        time.sleep(0.001)


def is_sealing(place):
    """Whether all work is done, or very nearly."""
    if place.stage in TRAININGS:
        return place.reported() == place.total
    return place.finished() == place.total or place.moment() == "after"
