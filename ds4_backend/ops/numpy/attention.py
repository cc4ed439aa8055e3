"""Attention of one span over its window and its compressed rows, with a sink per head.

Keys and values are the same rows. All rows of a token share one softmax; the sink takes weight and gives no value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import PAGE_TOKENS

Float = NDArray[np.float32]


@dataclass
class Compressed:
    """Compressed rows of one span: rows [n, d]. Token i of the span sees the first `visible[i]` of them, and if
    `chosen` [count, k] is given, only those among the chosen."""

    rows: Float
    visible: NDArray[np.int32]
    chosen: NDArray[np.intp] | None = None


def decode(q: Float, window: Float, compressed: Compressed | None, sinks: Float) -> Float:
    """One token: q [H, d] over window rows [m, d], all of them visible. Returns [H, d]."""
    scale = np.float32(q.shape[1] ** -0.5)
    parts = [window]
    if compressed is not None:
        rows = compressed.rows[: compressed.visible[0]]
        parts.append(rows if compressed.chosen is None else rows[compressed.chosen[0]])
    scores = [(q @ rows.T) * scale for rows in parts]
    top = reduce(np.maximum, (s.max(1) for s in scores if s.shape[1]), sinks)[:, None]
    weights = [np.exp(s - top) for s in scores]
    total = np.exp(sinks[:, None] - top) + sum(w.sum(1, keepdims=True) for w in weights)
    return sum(w @ rows for w, rows in zip(weights, parts, strict=True)) / total


def prefill(q: Float, window: Float, before: int, size: int, compressed: Compressed | None, sinks: Float) -> Float:
    """Many tokens: q [C, H, d]; window [before + C, d] holds `before` older rows, then the span's own. [C, H, d]

    Works in tiles of 128 queries, so that memory is bounded and a result does not depend on the chunk it came in.
    """
    out = np.empty_like(q)
    for low in range(0, len(q), PAGE_TOKENS):
        high = min(low + PAGE_TOKENS, len(q))
        oldest = max(0, low + before - size + 1)
        seen = _window_mask(low + before - oldest, high - low, size)
        tile = None if compressed is None else _tile(compressed, low, high)
        out[low:high] = _attend_tile(q[low:high], window[oldest : high + before], seen, tile, sinks)
    return out


def _tile(compressed: Compressed, low: int, high: int) -> Compressed:
    visible = compressed.visible[low:high]
    chosen = None if compressed.chosen is None else compressed.chosen[low:high]
    rows = compressed.rows if chosen is not None else compressed.rows[: visible[-1]]
    return Compressed(rows, visible, chosen)


def _window_mask(first: int, count: int, size: int) -> NDArray[np.bool_]:
    """Which of `first + count` rows each of the last `count` tokens sees: itself and `size - 1` before it."""
    back = (first + np.arange(count))[:, None] - np.arange(first + count)  # [count, rows]
    return (back >= 0) & (back < size)


def _attend_tile(
    q: Float, window: Float, seen: NDArray[np.bool_], compressed: Compressed | None, sinks: Float
) -> Float:
    scale = np.float32(q.shape[2] ** -0.5)
    scores = [_dense_scores(q * scale, window, seen)]
    if compressed is not None:
        scores.append(_compressed_scores(q * scale, compressed))
    top = np.max([s.max(2, initial=-np.inf) for s in scores], axis=0)
    top = np.maximum(top, sinks)[:, :, None]  # [C, H, 1]
    weights = [np.exp(s - top) for s in scores]
    total = np.exp(sinks[:, None] - top) + sum(w.sum(2, keepdims=True) for w in weights)
    out = _dense_values(weights[0], window)
    if compressed is not None:
        out += _compressed_values(weights[1], compressed)
    return out / total


def _dense_scores(q: Float, rows: Float, seen: NDArray[np.bool_]) -> Float:
    """[C, H, n], -inf where a token does not see a row."""
    tokens, heads, width = q.shape
    scores = (q.reshape(-1, width) @ rows.T).reshape(tokens, heads, -1)
    scores += np.where(seen, np.float32(0), np.float32(-np.inf))[:, None, :]
    return scores


def _dense_values(weights: Float, rows: Float) -> Float:
    tokens, heads, count = weights.shape
    return (weights.reshape(-1, count) @ rows).reshape(tokens, heads, -1)


def _compressed_scores(q: Float, compressed: Compressed) -> Float:
    rows, visible, chosen = compressed.rows, compressed.visible[:, None], compressed.chosen
    if chosen is None:
        return _dense_scores(q, rows, np.arange(len(rows)) < visible)
    scores = q @ rows[chosen].swapaxes(1, 2)  # [C, H, k]
    scores += np.where(chosen < visible, np.float32(0), np.float32(-np.inf))[:, None, :]
    return scores


def _compressed_values(weights: Float, compressed: Compressed) -> Float:
    if compressed.chosen is None:
        return _dense_values(weights, compressed.rows)
    return weights @ compressed.rows[compressed.chosen]
