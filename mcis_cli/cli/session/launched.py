"""The number of this process in a group, as torchrun, srun and Slurm's job arrays give it in the environment.

A shell that sbatch or salloc has opened is one process, however many tasks were requested; only srun starts several.
"""

import os
import re
from dataclasses import dataclass

from mcis_cli.errors import UsageError


@dataclass(frozen=True)
class Place:
    """One of several processes.

    Attributes:
        number: from 0.
        count: how many there are.
        variables: the environment variables that give both.
    """

    number: int
    count: int
    variables: str


def rank() -> Place | None:
    """The number of this process among those that torchrun started; None if it is the only one.

    Raises:
        UsageError: the variables make no sense.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return None
    return _place(_number("RANK"), _number("WORLD_SIZE"), "RANK and WORLD_SIZE")


def local() -> int | None:
    """Its number on this machine, from 0; None if it is the only process."""
    if rank() is not None:
        return _number("LOCAL_RANK") if "LOCAL_RANK" in os.environ else 0
    return _number("SLURM_LOCALID") if _step() is not None and "SLURM_LOCALID" in os.environ else None


def num_local() -> int:
    """How many processes share this machine, as far as that is known."""
    return _number("LOCAL_WORLD_SIZE") if rank() is not None and "LOCAL_WORLD_SIZE" in os.environ else 1


def shard() -> Place | None:
    """The part of the work of this process: the task of an array, divided further by its rank or srun's task.

    Raises:
        UsageError: the variables make no sense.
    """
    found = [place for place in (_array_task(), rank() or _step()) if place is not None]
    if not found:
        return None
    number, count = 0, 1
    for place in found:
        number, count = number * place.count + place.number, count * place.count
    return Place(number, count, " and ".join(place.variables for place in found))


def _array_task() -> Place | None:
    if not {f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "MAX")} <= os.environ.keys():
        return None
    task, count = _number("SLURM_ARRAY_TASK_ID"), _number("SLURM_ARRAY_TASK_COUNT")
    first, last = (_number(f"SLURM_ARRAY_TASK_{end}") for end in ("MIN", "MAX"))
    step, odd = divmod(last - first, max(count - 1, 1))
    number, between = divmod(task - first, max(step, 1))
    if odd or between:
        raise UsageError(
            f"SLURM_ARRAY_TASK_ID={task} cannot be made a shard: found {count} tasks from {first} to {last} that are "
            "not evenly spaced, expected an array like --array=0-7; give --shard I/N"
        )
    return _place(number, count, "SLURM_ARRAY_TASK_ID")


def _step() -> Place | None:
    # SLURM_NTASKS is also set in the shell of sbatch and salloc, which is one process.
    if not {"SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"} <= os.environ.keys():
        return None
    return _place(_number("SLURM_PROCID"), _number("SLURM_STEP_NUM_TASKS"), "SLURM_PROCID and SLURM_STEP_NUM_TASKS")


def _place(number: int, count: int, variables: str) -> Place | None:
    if not 0 <= number < count:
        raise UsageError(
            f"{variables} contradict each other: found {number} of {count}, expected 0 to {count - 1}; unset them"
        )
    return Place(number, count, variables) if count > 1 else None


def _number(name: str) -> int:
    text = os.environ[name]
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise UsageError(f"{name}={text!r:.40} is not understood, expected a number; unset it")
    return int(text)
