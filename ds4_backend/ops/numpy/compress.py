"""Compressors: pool windows of tokens into one row each, per channel, by a softmax over learned gates.

A CSA row pools two overlapping windows of 4: the first half of the previous window's lanes, the second half of its own.
An HCA row pools one window of 128. What is still open waits in a ring, indexed by position.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import CSA
from ds4_backend.ops.numpy.step import Segment

Float = NDArray[np.float32]


def closed_windows(pairs: Float, ring: Float, segment: Segment, ratio: int) -> Float | None:
    """Pooled, not yet normed rows [windows, width] that a span's (value, gate) pairs close, or None.

    pairs is [2, count, c*width], ring [2, m, c*width] of the span's slot; the ring is brought up to date.
    """
    start, count, size = segment.span.start, segment.span.count, ring.shape[1]
    first, last = start // ratio, (start + count) // ratio
    # the window that `start` falls into, and for CSA the one before it
    oldest = max(0, first - 1) * ratio if ratio == CSA else first * ratio
    rows = None
    if last > first:
        carried = ring[:, np.arange(oldest, start) % size]
        rows = _pooled(np.concatenate([carried, pairs], axis=1)[:, : last * ratio - oldest], first, ratio)
    kept = min(count, size)
    ring[:, np.arange(start + count - kept, start + count) % size] = pairs[:, count - kept :]
    return rows


def window_of_one(value: Float, gate: Float, bias: Float, ring: Float, start: int, ratio: int) -> Float | None:
    """`closed_windows` of the one token at `start` [c*width], its bias not yet added: most close nothing, and the ring
    holds all that a closing one needs."""
    place = start % ring.shape[1]
    ring[0, place] = value
    np.add(gate, bias, out=ring[1, place])
    if (start + 1) % ratio:
        return None
    first = start // ratio
    oldest = max(0, first - 1) * ratio if ratio == CSA else first * ratio
    return _pooled(ring[:, np.arange(oldest, start + 1) % ring.shape[1]], first, ratio)


def _pooled(tokens: Float, first: int, ratio: int) -> Float:
    return _overlapped(tokens, first) if ratio == CSA else _plain(tokens, ratio)


def _plain(tokens: Float, ratio: int) -> Float:
    windows = tokens.reshape(2, -1, ratio, tokens.shape[-1])
    return _pool(windows[0], windows[1])


def _overlapped(tokens: Float, first: int) -> Float:
    """CSA: `tokens` begins with the window before row `first`, unless first is 0 and there is none."""
    width = tokens.shape[-1] // 2
    windows = tokens.reshape(2, -1, CSA, 2 * width)
    if first == 0:  # a missing window weighs nothing
        missing = np.zeros((2, 1, CSA, 2 * width), np.float32)
        missing[1] = -np.inf
        windows = np.concatenate([missing, windows], axis=1)
    previous, own = windows[:, :-1, :, :width], windows[:, 1:, :, width:]
    both = np.concatenate([previous, own], axis=2)  # [2, rows, 8, width]
    return _pool(both[0], both[1])


def _pool(values: Float, logits: Float) -> Float:
    """Softmax-weighted sum over axis 1, per channel: [rows, tokens, width] -> [rows, width]."""
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return np.einsum("rtw,rtw->rw", weights, values) / weights.sum(1)
