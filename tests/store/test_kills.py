"""`kill -9` of a command at a random moment, for each stage: nothing sealed is touched, and little is done twice."""

import signal

import pytest
from sizes import size
from stage_folders import INTERVAL, STAGES, TRAININGS, found_done

pytestmark = [pytest.mark.promise, pytest.mark.slow, pytest.mark.heavy]
KILLS = size(3, 200)
REAL = 10  # each so many, a real command, imports and all, of these stages:
REAL_STAGES = size(("train-seg",), STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_after_kill_9_the_next_run_makes_the_same_and_redoes_a_segment_at_most(stage_folders, stage, tmp_path, tally):
    """Kills that come before or after the work are counted, but not enough: half of `KILLS` have to hit the work."""
    clocks = {real: stage_folders.clock(stage, real, "kill") for real in (False, True)}
    number = 0
    while number < KILLS or tally.facts.get("during", 0) < KILLS // 2:
        assert number < 20 * KILLS, f"too few kills hit the work: {tally.facts}"
        place, real = stage_folders.copy(stage, tmp_path / str(number)), number % REAL == 0 and stage in REAL_STAGES
        number += 1
        command = place.start(real=real)
        clocks[real].wait()
        command.send(signal.SIGKILL)
        assert command.wait() in (-signal.SIGKILL, 0), command.err
        assert not command.left_behind()

        place.check_sealed()
        moment, finished, reported = place.moment(), place.finished(), place.reported()
        clocks[real].learn(moment)
        if stage in TRAININGS and moment != "after":  # once it is sealed, the checkpoints go before the log does
            # Every ten steps, and at the last one, there is a report and then a checkpoint, or the artifact. So all
            # that is lost is the steps after the last checkpoint, fewer than ten, or those of the last report where
            # that had come and the checkpoint had not.
            last = INTERVAL if reported < place.total else (place.total - 1) % INTERVAL + 1
            assert reported - finished in (0, last)
        else:
            assert place.begun() <= 1  # the segment that was being written, or the artifact

        again = place.finish()
        assert "resumes from" in again.err or "cached" in again.err or not finished
        if moment != "after":
            assert (found_done(again) or 0) == finished
        tally.count(kills=1, real=real, **{moment: 1}, resumed=finished > 0)
        place.remove()
