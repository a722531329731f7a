"""Whether an error says that memory ran out, of the CPU or of the GPU, and which flags take less of it."""

from collections.abc import Mapping, Sequence

from mcis_cli.errors import UsageError

# numpy and Python raise MemoryError; torch raises RuntimeError for the CPU, and a child of it for a GPU.
_SAID_BY_TORCH = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")

_REMEDIES: Mapping[str, str] = {
    "train-cls": "--set train-cls.batch_pairs=2, --set train-cls.image_size=224 or --workers 1",
    "cams": "--cache-mb 256, --image-size 224 or --workers 1",
    "affinity": "--set affinity.longest_side=320, --set affinity.crop=224, --set affinity.batch_size=4 or --workers 1",
    "pseudo": "--workers 1 or --no-crf",
    "train-seg": "--set train-seg.batch_size=4, --set train-seg.crop=257 or --workers 1",
    "eval": "--set eval.window=512, --scales 1 or --workers 1",
    "predict": "--window 512 or --scales 1",
}
_ANY = "--workers 1, and smaller image sizes and batches with --set (docs/reference/configuration.md)"


def ran_out(error: BaseException) -> bool:
    """Whether memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID_BY_TORCH)


def explained(error: BaseException, arguments: Sequence[str]) -> UsageError:
    """The error that tells so: what asked for how much, and what to give to the command that was called.

    Args:
        error: as it was raised.
        arguments: of the command line.
    """
    command = next((argument for argument in arguments if argument in _REMEDIES), None)
    asked = " ".join(str(error).split()) or "no more was to be had"
    where = "the GPU's" if "CUDA" in asked or type(error).__name__ == "OutOfMemoryError" else "the machine's"
    return UsageError(
        f"{where} memory ran out ({asked[:160]}); expected enough for these settings: give "
        f"{_REMEDIES[command] if command else _ANY}"
    )
