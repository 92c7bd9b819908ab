"""The least time a picture can take on a device: what the network computes and moves, over what the device can."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from qdtrack_ros.models.static import StaticQDTrack


class Work(NamedTuple):
    """What a call of the static form takes.

    Attributes:
        flops: floating-point operations, two for a multiplication with its addition, of convolutions and products.
        moved: bytes of the weights, and of what convolutions and fully connected layers read and write, each once.
    """

    flops: float
    moved: float

    def floor_ms(self, tflops: float, gigabytes: float) -> float:
        """Least milliseconds on a device of so many 10^12 operations and 10^9 bytes a second."""
        return max(self.flops / (tflops * 1e9), self.moved / (gigabytes * 1e6))


def work_of(form: StaticQDTrack, batch: int) -> Work:
    """Count without computing: on tensors that have shapes only.

    Args:
        form: is moved there, and of no use afterwards.
        batch: pictures at once.
    """
    form = form.to("meta")
    moved = sum(part.numel() * part.element_size() for part in form.network.parameters())

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += sum(part.numel() * part.element_size() for part in (*inputs, output))

    for layer in form.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    images = torch.empty(batch, *form.input_size, 3, dtype=torch.uint8, device="meta")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        form(images, torch.empty(batch, 2, device="meta"))
    return Work(float(counter.get_total_flops()), float(moved))
