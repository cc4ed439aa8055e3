"""Attention of one span over its window and its compressed rows, with a sink per head.

Keys and values are the same rows. All rows of a token share one softmax; the sink takes weight and gives no value.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

TILE_TOKENS = 128
"""Queries at once, so that memory is bounded: a tile's gathered rows take 128 k d floats (128 MiB for Flash)."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """Compressed rows of one span: rows [n, d]. A token sees the first `visible` [C] of them, and if `chosen` [C, k] is
    given, only those among the chosen."""

    rows: mx.array
    visible: mx.array
    chosen: mx.array | None

    def tile(self, at: slice) -> Compressed:
        """The same rows for some of the tokens."""
        return Compressed(self.rows, self.visible[at], None if self.chosen is None else self.chosen[at])

    def candidates(self) -> tuple[mx.array, mx.array]:
        """Rows that the tokens look at, [n, d] or each token's own [C, k, d], and whether it sees them, [C, n or k]."""
        visible = self.visible[:, None]
        if self.chosen is None:
            return self.rows, mx.arange(self.rows.shape[0]) < visible
        return self.rows[self.chosen], self.chosen < visible


def attend(q: mx.array, window: mx.array, size: int, compressed: Compressed | None, sinks: mx.array) -> mx.array:
    """q [C, H, d] over window rows [before + C, d], of which each token sees `size` up to its own. [C, H, d]"""
    count = q.shape[0]
    before = window.shape[0] - count
    parts = []
    for low in range(0, count, TILE_TOKENS):
        high = min(low + TILE_TOKENS, count)
        oldest = max(0, before + low - size + 1)
        rows = window[oldest : before + high]
        seen = _window_mask(before + low - oldest, high - low, size)
        tile = None if compressed is None else compressed.tile(slice(low, high))
        parts.append(_attend_tile(q[low:high], rows, seen, tile, sinks))
        if count > TILE_TOKENS:
            mx.eval(parts[-1])
    return mx.concatenate(parts)


def _window_mask(first: int, count: int, size: int) -> mx.array:
    """Which of `first + count` rows each of the last `count` tokens sees: itself and `size - 1` before it."""
    back = mx.arange(first, first + count)[:, None] - mx.arange(first + count)  # [count, rows]
    return (back >= 0) & (back < size)


def _attend_tile(
    q: mx.array, window: mx.array, seen: mx.array, compressed: Compressed | None, sinks: mx.array
) -> mx.array:
    q = q * q.shape[2] ** -0.5
    scores = [_masked(_products(q, window.T), seen)]
    if compressed is not None:
        far, visible = compressed.candidates()
        scores.append(_masked(_products(q, far.swapaxes(-1, -2)), visible))
    scores.append(mx.broadcast_to(sinks[:, None], (*q.shape[:2], 1)))
    weights = mx.softmax(mx.concatenate(scores, axis=2), axis=2, precise=True)  # [C, H, rows + sink]
    near = window.shape[0]
    out = _products(weights[..., :near], window)
    return out if compressed is None else out + _products(weights[..., near:-1], far)


def _products(x: mx.array, rows: mx.array) -> mx.array:
    """x [C, H, i] @ rows [i, j], the same for all tokens and then one product of C*H rows, or rows [C, i, j]."""
    if rows.ndim == 3:
        return x @ rows
    return (x.reshape(-1, x.shape[2]) @ rows).reshape(*x.shape[:2], -1)


def _masked(scores: mx.array, seen: mx.array) -> mx.array:
    """Scores [C, H, n], -inf where a token does not see a row."""
    return mx.where(seen[:, None], scores, -mx.inf)
