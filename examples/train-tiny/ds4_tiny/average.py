"""A running mean of the weights over the end of a run: steadier than any one step's. It knows no training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BEGIN = 0.8
"""The part of a run's time from which the weights are averaged."""
HORIZON = 0.025
"""How much of a run's time the mean looks back on."""


class Average:
    """The mean, empty until `BEGIN`."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.part = 0.0

    @torch.no_grad()
    def follow(self, weights: dict[str, Tensor], part: float) -> None:
        """Take in the weights as they are when `part` of the time is gone."""
        if part < BEGIN:
            return
        live = {name: weight.detach() for name, weight in weights.items()}
        if not self.values:
            self.values = {name: weight.clone() for name, weight in live.items()}
        else:
            moved = [name for name, weight in live.items() if weight.is_floating_point()]
            share = 1 - math.exp(-(part - self.part) / HORIZON)
            torch._foreach_lerp_([self.values[name] for name in moved], [live[name] for name in moved], share)
        self.part = part
