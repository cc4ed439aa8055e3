"""The indexer: which compressed rows a token of a CSA layer attends to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


def scores(queries: Float, weights: Float, rows: Float) -> Float:
    """sum_h w_h max(0, q_h . row): queries [T, h, w], weights [T, h], rows [n, w] -> [T, n]."""
    tokens, heads, width = queries.shape
    if tokens == 1:  # many rows by few heads: the same product the other way round takes twice as long
        dots = rows @ queries[0].T  # [n, h]
        np.maximum(dots, 0, out=dots)
        return dots.dot(weights[0])[None]
    dots = queries.reshape(-1, width) @ rows.T  # [T*h, n]
    np.maximum(dots, 0, out=dots)
    return (weights[:, None, :] @ dots.reshape(tokens, heads, -1))[:, 0]


def top_k(values: Float, visible: NDArray[np.int32], k: int) -> NDArray[np.intp]:
    """Indices [T, k] of each row's k largest among its first `visible` values, ascending; ties go to the lower index.

    values is [T, n] with n >= k. Where fewer than k are visible, the rest of the row are indices of invisible ones.
    """
    tokens, rows = values.shape
    if tokens == 1 and visible[0] == rows:
        one = values[0]
        ordered = one.copy()
        ordered.partition(rows - k)
        (places,) = (one >= ordered[rows - k]).nonzero()
        if len(places) == k:
            return places[None]
    if tokens > 1 or visible[0] < rows:
        values = np.where(np.arange(rows) < visible[:, None], values, np.float32(-np.inf))
    threshold = np.partition(values, rows - k, axis=1)[:, rows - k, None]
    chosen = values >= threshold
    places = np.flatnonzero(chosen)
    if len(places) > tokens * k:  # ties at the threshold
        level = values == threshold
        room = k - (values > threshold).sum(1, keepdims=True)
        places = np.flatnonzero(chosen & ~(level & (np.cumsum(level, axis=1) > room)))
    return places.reshape(tokens, k) % rows
