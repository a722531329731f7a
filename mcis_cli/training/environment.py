"""Versions and devices of this machine, and the device and precision that `auto` chooses, with reasons."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator

import torch

from mcis_cli import __version__
from mcis_cli.training.precision import choose_device, choose_precision, describe_machine

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "pillow", "h5py", "pydensecrf2", "pydantic", "typer")


def environment(name: str = "auto") -> dict[str, dict[str, str]]:
    """Facts by heading: versions, devices, and choices.

    Args:
        name: of a device, as for `--device`.

    Raises:
        UsageError: no such device on this machine.
    """
    device = choose_device(name)
    precision = choose_precision("auto", device)
    machine = describe_machine(device, precision)
    return {
        "versions": {"mcis": __version__, "python": platform.python_version(), **dict(_packages())},
        "machine": {"platform": platform.platform(), "cores": str(os.cpu_count() or 1), **dict(_devices())},
        "chosen": {
            "device": f"{device}: {_why_device(name, device)}",
            "precision": f"{precision}: {_why_precision(device)}",
            "threads": f"{machine['threads']} of torch; OMP_NUM_THREADS sets them",
        },
    }


def _packages() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, "not installed"


def _devices() -> Iterator[tuple[str, str]]:
    cpu = describe_machine(torch.device("cpu"), "fp32")
    yield "cpu", str(cpu["device_name"])
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        yield f"cuda:{index}", f"{found.name}, {found.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        yield "mps", "there, and taken where it is named"


def _why_device(name: str, device: torch.device) -> str:
    if name != "auto":
        return "it was named"
    if device.type == "cuda":
        return "torch finds a CUDA device"
    if torch.version.cuda is None and torch.version.hip is None:
        return "this torch is built for CPUs alone"
    return "torch finds no CUDA device"


def _why_precision(device: torch.device) -> str:
    has_bf16 = choose_precision("auto", device) == "bf16"
    if device.type in ("cuda", "cpu"):
        return f"this {device.type.upper()} {'multiplies' if has_bf16 else 'does not multiply'} bfloat16 in hardware"
    return "bfloat16 is chosen on CUDA devices and CPUs alone"
