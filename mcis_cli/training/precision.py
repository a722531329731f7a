"""Choice of device and precision: bfloat16 if the hardware has it, otherwise float32.

float16 is not offered: the affinities of the paper are unscaled sums over hundreds of channels and overflow it.
"""

import os
import platform
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from mcis_cli.errors import UsageError

Precision = Literal["fp32", "bf16"]


def choose_device(name: str = "auto", local: int | None = None) -> torch.device:
    """The device of a name; `auto` is a CUDA device, or else the CPU.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`, ...
        local: number of this process among those of its machine, from 0: `auto` and `cuda` give them the CUDA devices
            in turn; None if it is the only process, which gets the first.

    Raises:
        UsageError: no such device on this machine.
    """
    if name in ("auto", "cuda") and local is not None and torch.cuda.is_available():
        return torch.device("cuda", local % torch.cuda.device_count())
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(
            f"no device is called {name!r}, expected auto, cpu, cuda, cuda:N or mps; give --device auto"
        ) from None
    if not _is_present(device):
        raise UsageError(f"device {name} is not on this machine, found {_present()}; give --device auto")
    return device


def choose_precision(setting: Literal["auto", "fp32", "bf16"], device: torch.device) -> Precision:
    """The precision of a setting; `auto` is bf16 if the hardware computes it.

    Args:
        setting: as in the configuration; `fp32` and `bf16` are returned unchanged.
        device: where the network runs.
    """
    if setting != "auto":
        return setting
    if device.type == "cuda":
        with torch.cuda.device(device):
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and cpu_has_bf16() else "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Context in which matrix products and convolutions run in `precision`; weights stay float32.

    Losses and softmax are cast up by torch; the affinity's softmax does so itself.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


@cache
def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware: AMX, AVX512-BF16, or Arm's."""
    query = getattr(torch.cpu, "get_capabilities", None)
    if query is not None:
        found = query()
        return any(found.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return _flags_have_bf16(Path("/proc/cpuinfo"))


def describe_machine(device: torch.device, precision: Precision) -> dict[str, str | int]:
    """The machine of a result, for the manifest: never part of a recipe."""
    described: dict[str, str | int] = {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count() or 1,
        "torch": str(torch.__version__),
        "platform": platform.platform(),
    }
    if device.type == "cuda":
        described["cuda"] = torch.version.cuda or torch.version.hip or "unknown"
    return described


def _is_present(device: torch.device) -> bool:
    if device.type == "cuda":
        return (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return device.type == "cpu" and not device.index


def _present() -> str:
    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    return ", ".join([*names, "mps"] if torch.backends.mps.is_available() else names)


def _flags_have_bf16(cpuinfo: Path) -> bool:
    try:
        words = set(cpuinfo.read_text().split())
    except OSError:
        return False
    return not words.isdisjoint({"amx_bf16", "avx512_bf16", "bf16"})


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
