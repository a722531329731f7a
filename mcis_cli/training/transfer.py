"""From the host's memory to that of the device that computes."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device, *, memory_format: torch.memory_format = torch.preserve_format) -> Tensor:
    """A tensor of the host on a device; the host does not wait until a CUDA device has taken it.

    That takes pages which the system does not move, so it is copied into some first.
    """
    if device.type != "cuda":
        return tensor.to(device, memory_format=memory_format)
    return tensor.pin_memory().to(device, non_blocking=True, memory_format=memory_format)
