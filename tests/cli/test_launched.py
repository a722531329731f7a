"""Shards by the environment: what torchrun, srun and job arrays say, and that nothing is cut in parts by surprise."""

import pytest

from mcis_cli.cli.session import launched
from mcis_cli.cli.session.launched import Place
from mcis_cli.errors import UsageError
from mcis_cli.store import segments

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}
BY_SRUN = "SLURM_PROCID and SLURM_STEP_NUM_TASKS"


def array(task, count, first, last):
    names = ("ID", "COUNT", "MIN", "MAX")
    return {f"SLURM_ARRAY_TASK_{name}": str(n) for name, n in zip(names, (task, count, first, last), strict=True)}


@pytest.fixture
def given(monkeypatch):
    """Sets the variables, and no others of theirs."""

    def put(variables):
        import os

        for name in list(os.environ):
            if name in NAMES or name.startswith("SLURM_"):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, None),
        (TORCHRUN, Place(1, 2, "RANK and WORLD_SIZE")),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "3"}, None),
        (SRUN, Place(3, 4, BY_SRUN)),
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        # The shell of sbatch --ntasks 4: one process, which is to do all.
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None),
        (array(0, 4, 0, 3), Place(0, 4, "SLURM_ARRAY_TASK_ID")),
        (array(4, 4, 1, 4), Place(3, 4, "SLURM_ARRAY_TASK_ID")),
        (array(14, 3, 10, 18), Place(1, 3, "SLURM_ARRAY_TASK_ID")),  # --array=10-18:4
        (array(5, 1, 5, 5), None),
        ({**SRUN, **TORCHRUN}, Place(1, 2, "RANK and WORLD_SIZE")),  # srun starts torchrun, which starts this
        ({**array(1, 2, 0, 1), **SRUN}, Place(7, 8, f"SLURM_ARRAY_TASK_ID and {BY_SRUN}")),
    ],
)
def test_the_environment_says_which_part(given, variables, place):
    given(variables)
    assert launched.shard() == place


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "found 2 of 2"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK='one' is not understood"),
        (array(5, 3, 1, 7), "--array=0-7"),  # --array=1,5,7
        (array(2, 3, 1, 8), "--array=0-7"),
    ],
)
def test_what_makes_no_sense_is_told(given, variables, words):
    given(variables)
    with pytest.raises(UsageError, match=words):
        launched.shard()


def test_processes_of_a_machine_take_its_gpus_in_turn_and_share_its_cores(given):
    given({})
    assert (launched.local(), launched.num_local()) == (None, 1)
    given(TORCHRUN)
    assert (launched.local(), launched.num_local()) == (1, 2)
    given(SRUN)
    assert launched.local() == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "first", [{"RANK": "0", "WORLD_SIZE": "2"}, {**SRUN, "SLURM_STEP_NUM_TASKS": "2"}, array(2, 2, 2, 3)]
)
def test_parts_by_the_environment_make_what_one_command_makes(call, chain_copy, monkeypatch, given, first):
    monkeypatch.setattr(segments, "SEGMENT_SIZE", 3)
    wanted = chain_copy.made["pseudo"].id
    command = ("pseudo", chain_copy.made["cams"].path, "--store", chain_copy.folder / "other", "-q")
    given({})
    flags = ("--data", chain_copy.folder / "shapes")
    seconds = {"SLURM_PROCID": "1"} if "SLURM_STEP_ID" in first else {"RANK": "1"} if "RANK" in first else {}
    second = {**first, **seconds} if seconds else array(3, 2, 2, 3)
    given({**first, "SLURM_PROCID": "0"} if "SLURM_STEP_ID" in first else first)
    answer = call(*command[:-1], *flags, cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (0, ""), answer.err
    assert "mcis: pseudo: --shard 1/2, by " in answer.err
    given(second)
    answer = call(*command, *flags, cwd=chain_copy.folder)
    assert (answer.code, answer.out.strip()) == (0, wanted), answer.err
    answer = call(*command[:-1], "--shard", "1/1", *flags, cwd=chain_copy.folder)
    assert "--shard 1/1, by " not in answer.err
