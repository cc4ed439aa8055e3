"""The optimiser: Muon for matrices, Adam for everything else. All state and rates are tensors, so that a step can be
recorded as a CUDA graph.

Muon turns the averaged gradient of a matrix into the nearest orthogonal one (five Newton-Schulz steps), so that every
direction moves equally. Stacked experts and grouped outputs are several matrices and are treated one by one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ds4_tiny.shape import Shape

ADAM = ("embed_tokens", "lm_head", "mlp.gate.weight", "_hc.", "hc_head", "position_bias", "weights_proj")
"""Parts of names of matrices that are lists of vectors, not maps: Adam's."""
MOMENTUM, BETAS, DECAY = 0.95, (0.9, 0.98), 0.01
EMBEDDING_GAIN = 4.0


class Optimizer:
    """Takes gradients as one flat tensor's views, in the order of `parameters`."""

    def __init__(self, shape: Shape, parameters: dict[str, Tensor]) -> None:
        first = next(iter(parameters.values()))
        self.rate, self.matrix_rate, self.steps = (torch.zeros((), device=first.device) for _ in range(3))
        self.parameters = parameters
        self.size = torch.zeros((), device=first.device)
        adam = [name for name, p in parameters.items() if p.ndim < 2 or any(part in name for part in ADAM)]
        self.plain = adam
        self.mean = [torch.zeros_like(parameters[name]) for name in adam]
        self.square = [torch.zeros_like(parameters[name]) for name in adam]
        self.groups: dict[tuple[int, int], list[str]] = {}
        for name in parameters.keys() - set(adam):
            self.groups.setdefault(_matrix(shape, name, parameters[name]), []).append(name)
        for names in self.groups.values():
            names.sort()
        self.momentum = {
            (r, c): torch.zeros(sum(parameters[n].numel() for n in names) // (r * c), r, c, device=first.device)
            for (r, c), names in self.groups.items()
        }

    def state(self) -> dict[str, Tensor]:
        """What it remembers between steps, by name."""
        out = {"steps": self.steps}
        for name, mean, square in zip(self.plain, self.mean, self.square, strict=True):
            out |= {f"mean {name}": mean, f"square {name}": square}
        return out | {f"momentum {rows} {columns}": value for (rows, columns), value in self.momentum.items()}

    @torch.no_grad()
    def step(self, gradients: dict[str, Tensor]) -> None:
        """One step; the length of the whole gradient is left in `size`. A gradient that is not finite moves nothing."""
        self.steps += 1
        lengths = torch._foreach_norm(list(gradients.values()))
        self.size.copy_(torch.linalg.vector_norm(torch.stack(lengths)))
        gain = (1 / (self.size + 1e-6)).clamp(max=1.0)
        gain = torch.where(self.size.isfinite(), gain, torch.zeros_like(gain))
        self._adam([torch.nan_to_num(gradients[name]) * gain for name in self.plain])
        for (rows, columns), names in self.groups.items():
            stacked = torch.cat([torch.nan_to_num(gradients[n]).reshape(-1, rows, columns) for n in names])
            momentum = self.momentum[rows, columns]
            momentum.lerp_(stacked, 1 - MOMENTUM)
            update = orthogonal(stacked.lerp(momentum, MOMENTUM)) * max(1, rows / columns) ** 0.5
            start = 0
            for name in names:
                p = self.parameters[name]
                end = start + p.numel() // (rows * columns)
                p.mul_(1 - self.matrix_rate * DECAY).sub_(self.matrix_rate * update[start:end].reshape(p.shape))
                start = end

    def _adam(self, gradients: list[Tensor]) -> None:
        first, second = BETAS
        torch._foreach_lerp_(self.mean, gradients, 1 - first)
        torch._foreach_mul_(self.square, second)
        torch._foreach_addcmul_(self.square, gradients, gradients, 1 - second)
        mean_part, square_part = 1 - first**self.steps, 1 - second**self.steps
        for name, mean, square in zip(self.plain, self.mean, self.square, strict=True):
            rate = self.rate * (EMBEDDING_GAIN if "embed_tokens" in name else 1.0)
            self.parameters[name].sub_(rate * (mean / mean_part) / ((square / square_part).sqrt() + 1e-8))


def orthogonal(x: Tensor) -> Tensor:
    """Each matrix [n, r, c] with its singular values all near 1 (quintic Newton-Schulz iteration)."""
    tall = x.shape[1] > x.shape[2]
    x = x.bfloat16() if x.is_cuda else x
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.transpose(1, 2) if tall else x).float()


def _matrix(shape: Shape, name: str, p: Tensor) -> tuple[int, int]:
    """Rows and columns of the maps that a parameter holds."""
    rows, columns = p.shape[-2:]
    if "gate_up" in name:
        rows //= 2
    if "o_a_proj" in name:
        rows //= shape.groups
    return rows, columns
