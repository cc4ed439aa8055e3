"""The cache simulation as a layer: rows are rounded in the forward pass, gradients pass straight through.

Attention rows: non-rotary channels in blocks of 64 to E4M3. Indexer queries and rows: Hadamard transform, then blocks
of 32 to E2M1. Scales are powers of two. The same values as `ds4_backend.ops.simulate`, but for
those too small for whole float16 numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROW_BLOCK, INDEX_BLOCK = 64, 32
E4M3_MAX, E2M1_MAX = 448.0, 6.0
SMALLEST_ROW, SMALLEST_INDEX = 1e-4, 6 * 2.0**-126


def round_rows(rows: Tensor, rotary: int) -> Tensor:
    """Attention rows [..., d] as the cache holds them; the last `rotary` channels lose float16 precision only."""
    with torch.no_grad():
        plain = rows[..., : rows.shape[-1] - rotary].float()
        blocks = plain.unflatten(-1, (-1, ROW_BLOCK))
        scale = power_of_two(blocks.abs().amax(-1, keepdim=True).clamp_min(SMALLEST_ROW) / E4M3_MAX)
        rounded = (e4m3(blocks / scale) * scale).flatten(-2)
        rest = rows[..., rows.shape[-1] - rotary :].half().float()
        change = torch.cat([rounded, rest], -1) - rows.float()
    return rows + change


def round_index(rows: Tensor, mixer: Tensor) -> Tensor:
    """Indexer queries or rows [..., w], mixed by `hadamard(w)` and rounded. Mixing leaves dot products alone."""
    with torch.autocast(rows.device.type, enabled=False):  # its product would come out in bfloat16
        mixed = rows.float() @ mixer
    with torch.no_grad():
        blocks = mixed.unflatten(-1, (-1, INDEX_BLOCK))
        scale = power_of_two(blocks.abs().amax(-1, keepdim=True).clamp_min(SMALLEST_INDEX) / E2M1_MAX)
        change = (e2m1(blocks / scale) * scale).flatten(-2) - mixed
    return mixed + change


def power_of_two(values: Tensor) -> Tensor:
    """The least power of two that is not below each (positive, float32) value."""
    bits = values.view(torch.int32)
    return ((bits + 0x7FFFFF) & 0x7F800000).view(torch.float32)


def e4m3(values: Tensor) -> Tensor:
    """Rounded to 4 exponent and 3 mantissa bits, ties to even; saturates at 448."""
    size = values.abs().clamp_max(E4M3_MAX)
    exponent = (size.view(torch.int32) & 0x7F800000).view(torch.float32)  # 2^floor(log2 size)
    step = exponent.clamp_min(2.0**-6) / 8
    return torch.copysign((torch.round(size / step) * step).clamp_max(E4M3_MAX), values)


def e2m1(values: Tensor) -> Tensor:
    """Rounded to 0, .5, 1, 1.5, 2, 3, 4, 6, ties to even; saturates at 6."""
    size = values.abs().clamp_max(E2M1_MAX)
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    return torch.copysign(torch.round(size / step) * step, values)


def hadamard(width: int) -> Tensor:
    """Sylvester's matrix [width, width], scaled to be orthogonal."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < width:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    return (matrix * width**-0.5).float()
