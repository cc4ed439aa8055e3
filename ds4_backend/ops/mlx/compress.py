"""Compressors: pool windows of tokens into one row each, per channel, by a softmax over learned gates.

A CSA row pools two overlapping windows of 4: the first half of the previous window's lanes, the second half of its own.
An HCA row pools one window of 128.
"""

from __future__ import annotations

import mlx.core as mx

from ds4_backend.gguf.geometry import CSA


def pooled_rows(tokens: mx.array, first: int, ratio: int) -> mx.array:
    """Pooled, not yet normed rows [windows, width], the first of them row number `first`.

    tokens is [2, n, c*width], (value, gate) of whole windows. For CSA it begins with the window before row `first`,
    unless `first` is 0 and there is none.
    """
    windows = tokens.reshape(2, -1, ratio, tokens.shape[-1])
    if ratio == CSA:
        windows = _overlapped(windows, first)
    values, gates = windows[0], windows[1]  # [windows, tokens, width]
    return (mx.softmax(gates, axis=1, precise=True) * values).sum(axis=1)


def _overlapped(windows: mx.array, first: int) -> mx.array:
    """[2, rows, 8, width]: each row's 4 previous and 4 own tokens."""
    width = windows.shape[-1] // 2
    if first == 0:  # a missing window weighs nothing
        nothing = mx.zeros((1, 1, CSA, 2 * width))
        windows = mx.concatenate([mx.concatenate([nothing, nothing - mx.inf]), windows], axis=1)
    return mx.concatenate([windows[:, :-1, :, :width], windows[:, 1:, :, width:]], axis=2)
