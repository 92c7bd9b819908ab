"""What the processes of one training tell each other; one that torchrun did not start talks to nobody."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Launch(NamedTuple):
    """How torchrun started this process: processes on this machine, machines, and its number among them all."""

    processes: int
    machines: int
    rank: int


def launch() -> Launch:
    """What torchrun says in the environment; one process on one machine without it."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    machines = int(os.environ.get("WORLD_SIZE", "1")) // local
    return Launch(local, machines, int(os.environ.get("RANK", "0")))


def mean_over_processes(values: Tensor) -> Tensor:
    """Mean of a tensor without gradient over all processes, the same to the bit in each of them.

    Every process must call it equally often. Losses divide by means of counts: as gradients are averaged over the
    processes, the sum of the parts then is the loss of all pairs at once.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def mean_count(count: int, like: Tensor) -> Tensor:
    """A count's mean over all processes, at least 1: a float32 scalar on the device of ``like``."""
    return mean_over_processes(torch.tensor(float(count), device=like.device)).clamp(min=1.0)
