"""The indexer: which compressed rows a token of a CSA layer attends to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def scores(queries: Float, weights: Float, rows: Float) -> Float:
    """sum_h w_h max(0, q_h . row): queries [T, h, w], weights [T, h], rows [n, w] -> [T, n]."""
    tokens, heads, width = queries.shape
    dots = queries.reshape(-1, width) @ rows.T  # [T*h, n]
    np.maximum(dots, 0, out=dots)
    return (weights[:, None, :] @ dots.reshape(tokens, heads, -1))[:, 0]


def top_k(values: Float, visible: NDArray[np.int32], k: int) -> NDArray[np.intp]:
    """Indices [T, k] of each row's k largest among its first `visible` values, ascending; ties go to the lower index.

    values is [T, n] with n >= k. Where fewer than k are visible, the rest of the row are indices of invisible ones.
    """
    if len(values) == 1 and visible[0] >= k:
        return np.sort(np.argsort(-values[0, : visible[0]], kind="stable")[:k])[None]
    values = np.where(np.arange(values.shape[1]) < visible[:, None], values, -np.inf)
    threshold = np.partition(values, values.shape[1] - k, axis=1)[:, values.shape[1] - k, None]
    above = values > threshold
    level = values == threshold
    room = k - above.sum(1, keepdims=True)
    chosen = above | (level & (np.cumsum(level, axis=1) <= room))
    return np.nonzero(chosen)[1].reshape(len(values), k)
