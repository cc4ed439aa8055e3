"""The indexer: which compressed rows a token of a CSA layer attends to."""

from __future__ import annotations

import mlx.core as mx

from ds4_backend.ops.mlx.arithmetic import largest

SCORE_VALUES = 1 << 24
"""Head scores held at once (64 MiB): bounds the tokens of a tile."""


def choose(queries: mx.array, weights: mx.array, rows: mx.array, visible: mx.array, k: int) -> mx.array:
    """Rows of each token's choice, int32 [T, k], ascending: the k best of its first `visible` rows.

    queries [T, h, w], weights [T, h], rows [n, w] with n >= k, visible [T]. Where fewer than k are visible, the rest
    are indices of invisible rows.
    """
    tokens, heads, _ = queries.shape
    tile = max(1, SCORE_VALUES // (heads * rows.shape[0]))
    parts = []
    for low in range(0, tokens, tile):
        at = slice(low, min(low + tile, tokens))
        parts.append(_choose_tile(queries[at], weights[at], rows, visible[at], k))
        if tokens > tile:
            mx.eval(parts[-1])
    return mx.concatenate(parts)


def _choose_tile(queries: mx.array, weights: mx.array, rows: mx.array, visible: mx.array, k: int) -> mx.array:
    values = scores(queries, weights, rows)
    hidden = mx.arange(rows.shape[0]) >= visible[:, None]
    return largest(mx.where(hidden, -mx.inf, values), k)


def scores(queries: mx.array, weights: mx.array, rows: mx.array) -> mx.array:
    """sum_h w_h max(0, q_h . row): [T, n]."""
    tokens, heads, width = queries.shape
    dots = mx.maximum(queries.reshape(-1, width) @ rows.T, 0).reshape(tokens, heads, -1)
    return (weights[:, None, :] @ dots)[:, 0]
