"""Attention of one span over its window and its compressed rows, with a sink per head.

Keys and values are the same rows. All rows of a token share one softmax; the sink takes weight and gives no value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
TILE = 32
"""Queries of a prefill that are attended at once."""


@dataclass
class Compressed:
    """Compressed rows of one span: rows [n, d]. Token i of the span sees the first `visible[i]` of them, and if
    `chosen` [count, k] is given, only those among the chosen."""

    rows: Float
    visible: NDArray[np.int32]
    chosen: NDArray[np.intp] | None = None


def decode(q: Float, window: Float, compressed: Compressed | None, sinks: Float) -> Float:
    """One token: q [H, d] over window rows [m, d], all of them visible. Returns [H, d]."""
    split, rows = len(window), None
    if compressed is not None:
        rows = compressed.rows[: compressed.visible[0]]
        if compressed.chosen is not None:
            rows = rows.take(compressed.chosen[0], 0)
    q = q * np.float32(q.shape[1] ** -0.5)
    scores = np.empty((len(q), split + (0 if rows is None else len(rows)) + 1), np.float32)
    scores[:, -1] = sinks  # one more score, whose value is 0
    np.matmul(q, window.T, out=scores[:, :split])
    if rows is not None:
        scores[:, split:-1] = rows.dot(q.T).T  # the other way round takes twice as long for many rows
    scores -= np.maximum.reduce(scores, 1, keepdims=True)
    np.exp(scores, out=scores)
    out = scores[:, :split].dot(window)
    if rows is not None:
        out += scores[:, split:-1].dot(rows)
    out /= np.add.reduce(scores, 1, keepdims=True)
    return out


def prefill(q: Float, window: Float, before: int, size: int, compressed: Compressed | None, sinks: Float) -> Float:
    """Many tokens: q [C, H, d]; window [before + C, d] holds `before` older rows, then the span's own. [C, H, d]

    Works in tiles of a few queries, so that memory is bounded and few rows outside a query's window are multiplied.
    """
    out = np.empty_like(q)
    for low in range(0, len(q), TILE):
        high = min(low + TILE, len(q))
        oldest = max(0, low + before - size + 1)
        hidden = _window_mask(low + before - oldest, high - low, size)
        tile = None if compressed is None else _tile(compressed, low, high)
        out[low:high] = _attend_tile(q[low:high], window[oldest : high + before], hidden, tile, sinks)
    return out


def _softmax(scores: Float, sinks: Float) -> Float:
    """Turn scores [..., H, n] into weights in place, and return what they are to be divided by, [..., H, 1]."""
    top = np.maximum(scores.max(-1), sinks)[..., None]
    scores -= top
    np.exp(scores, out=scores)
    total = np.exp(sinks[:, None] - top)
    total += scores.sum(-1, keepdims=True)
    return total


def _tile(compressed: Compressed, low: int, high: int) -> Compressed:
    visible = compressed.visible[low:high]
    chosen = None if compressed.chosen is None else compressed.chosen[low:high]
    rows = compressed.rows if chosen is not None else compressed.rows[: visible[-1]]
    return Compressed(rows, visible, chosen)


@lru_cache(maxsize=16)
def _window_mask(first: int, count: int, size: int) -> Float:
    """0 or -inf, [count, 1, first + count]: each of the last `count` rows sees itself and `size - 1` before it."""
    back = (first + np.arange(count))[:, None] - np.arange(first + count)
    return _mask((back >= 0) & (back < size))


def _mask(seen: NDArray[np.bool_]) -> Float:
    """What to add to scores: 0 where seen, -inf elsewhere; [C, 1, n] of [C, n]."""
    return np.where(seen, np.float32(0), np.float32(-np.inf))[:, None, :]


def _attend_tile(q: Float, window: Float, hidden: Float, compressed: Compressed | None, sinks: Float) -> Float:
    """q [C, H, d] over window rows [m, d], less those that are `hidden`, and over compressed rows."""
    (tokens, heads, width), split = q.shape, len(window)
    keys = None if compressed is None else _keys(compressed)  # [n, d], or [C, n, d] if each token chose its own
    scores = np.empty((tokens, heads, split + (0 if keys is None else keys.shape[-2])), np.float32)
    q = q * np.float32(width**-0.5)
    _multiply(q, np.ascontiguousarray(window.T), scores[:, :, :split])
    scores[:, :, :split] += hidden
    if compressed is not None and keys is not None:
        _multiply(q, keys.swapaxes(-1, -2), scores[:, :, split:])
        places = np.arange(len(keys)) if compressed.chosen is None else compressed.chosen
        if compressed.visible[0] <= places.max(initial=-1):
            scores[:, :, split:] += _mask(places < compressed.visible[:, None])
    total = _softmax(scores, sinks)
    out = _multiply(scores[:, :, :split], window, np.empty_like(q))
    if keys is not None:
        out += _multiply(scores[:, :, split:], keys, q)
    out /= total
    return out


def _keys(compressed: Compressed) -> Float:
    return compressed.rows if compressed.chosen is None else compressed.rows.take(compressed.chosen, axis=0)


def _multiply(x: Float, matrix: Float, out: Float) -> Float:
    """x [C, H, k] by matrix [k, n], or by [C, k, n], into out [C, H, n]; one product over all tokens if it can be."""
    if matrix.ndim == 3:
        return np.matmul(x, matrix, out=out)
    flat = (len(x) * x.shape[1], -1)
    np.matmul(x.reshape(flat), matrix, out=out.reshape(flat))
    return out
