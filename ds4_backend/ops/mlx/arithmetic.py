"""Small formulas that several of the MLX ops need. All float32."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray


class Turn(NamedTuple):
    """Rotations: cos and sin [n, R/2] of each row's channel pairs."""

    cos: mx.array
    sin: mx.array

    def back(self) -> Turn:
        """The opposite rotation."""
        return Turn(self.cos, -self.sin)


def turn_by(radians: NDArray[np.float32]) -> Turn:
    """Rotations by these angles. Taken on the host: a GPU's fast sine is wrong at the angles of a long context."""
    return Turn(mx.array(np.cos(radians)), mx.array(np.sin(radians)))


def rotate(x: mx.array, turn: Turn) -> mx.array:
    """x [n, d] or [n, H, d] with its last R channels rotated as adjacent pairs."""
    cos, sin = (turn.cos, turn.sin) if x.ndim == 2 else (turn.cos[:, None], turn.sin[:, None])
    plain = x.shape[-1] - 2 * cos.shape[-1]
    a, b = x[..., plain::2], x[..., plain + 1 :: 2]
    pairs = mx.stack([a * cos - b * sin, a * sin + b * cos], axis=-1)
    return mx.concatenate([x[..., :plain], pairs.reshape(*x.shape[:-1], -1)], axis=-1)


def largest(values: mx.array, k: int) -> mx.array:
    """Indices int32 [T, k] of each row's k largest values, ascending; ties go to the lower index.

    values is [T, n] with n >= k. Does not lean on a sort's stability, which MLX does not promise.
    """
    count = values.shape[1]
    threshold = mx.sort(values, axis=1)[:, count - k, None]
    above, level = values > threshold, values == threshold
    room = k - above.sum(axis=1, keepdims=True)
    chosen = above | (level & (mx.cumsum(level.astype(mx.int32), axis=1) <= room))
    index = mx.where(chosen, mx.arange(count), count)
    return mx.sort(index, axis=1)[:, :k]
