"""Explain errors when memory runs out, on the CPU or the GPU."""

import resource
from collections.abc import Sequence

from mcis_cli.errors import UsageError

# numpy and Python raise MemoryError; torch raises RuntimeError for the CPU, and a child of it for a GPU; the loader of
# libraries and the system calls have their own messages.
_SAID = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cannot allocate memory",
    "failed to map segment",
    "can't start new thread",
)

_PREDICT = "--window 512 or --scales 1"
_ANY = "--workers 1, and smaller image sizes and batches with --set (docs/reference/configuration.md)"


def ran_out(error: BaseException) -> bool:
    """Whether memory ran out."""
    if isinstance(error, MemoryError):
        return True
    # An interpreter that had no memory left for a message, or a module that another thread could not finish importing.
    is_unfinished = isinstance(error, ImportError) and str(error).startswith("cannot import name")
    if isinstance(error, SystemError) or is_unfinished:
        return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    kinds = (RuntimeError, ImportError, OSError)
    return isinstance(error, kinds) and any(words in str(error).lower() for words in _SAID)


def explained(error: BaseException, arguments: Sequence[str]) -> UsageError:
    """An error that names the allocation that failed, and flags of the command that need less memory.

    Args:
        error: as it was raised.
        arguments: of the command line.
    """
    lines = str(error).splitlines()
    said = next((line for line in lines if any(words in line.lower() for words in _SAID)), str(error))
    asked = " ".join(said.split()) or "the system gave no more"
    where = "the GPU's" if "CUDA" in asked or type(error).__name__ == "OutOfMemoryError" else "the machine's"
    return UsageError(
        f"{where} memory ran out ({asked[:160]}); expected enough for these settings: give {_flags_for_less(arguments)}"
    )


def _flags_for_less(arguments: Sequence[str]) -> str:
    """Flags with which the command that was called needs less memory."""
    try:
        from mcis_cli.stages import stages, stages_of
    except (MemoryError, ImportError):
        return _ANY
    names = (name for argument in arguments for name in stages_of(argument))
    work = next((stages()[name].work for name in names), None)
    return work.less_memory if work is not None else _PREDICT if "predict" in arguments else _ANY
