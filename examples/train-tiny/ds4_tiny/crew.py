"""One process for each GPU (torchrun starts them), or one process alone: who am I, and what do we agree on."""

from __future__ import annotations

import os

import torch
from torch import Tensor


class Crew:
    """The processes that train together."""

    def __init__(self) -> None:
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        local = int(os.environ.get("LOCAL_RANK", 0))
        self.device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        self._talk = None
        if self.size > 1:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all processes are on one machine
            torch.distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
            self._talk = torch.distributed.new_group(backend="gloo")

    def agreed(self, value: float) -> float:
        """The first process's value, for all. Goes by the CPU, so no GPU waits for it."""
        if self._talk is None:
            return value
        shared = torch.tensor([value], dtype=torch.float64)
        torch.distributed.broadcast(shared, 0, group=self._talk)
        return float(shared)

    def average(self, values: Tensor) -> None:
        """Make every process's tensor the mean of all, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
            values /= self.size

    def leave(self) -> None:
        """The end."""
        if self._talk is not None:
            torch.distributed.destroy_process_group()
