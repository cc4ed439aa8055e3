"""Hyper-connections: collapse n residual streams into a sub-layer's input, spread its output back."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.ops.base import HyperConnection
from ds4_backend.ops.numpy.arithmetic import linear, rms_scale, sigmoid

Float = NDArray[np.float32]
FEW = 4
"""Up to so many tokens Sinkhorn's steps are faster in plain floats, token by token, than as numpy calls."""


def expand_scale(scale: Float, n: int) -> Float:
    """The three scales of a hyper-connection as one per mix: [n(n+2)]."""
    return np.repeat(scale, (n, n, n * n))


def mixes(streams: Float, fn: Float, epsilon: float) -> Float:
    """fn . rms(flat(X)): [T, mixes]. The scalar 1/rms is applied after the product, which is the same."""
    flat = streams.reshape(len(streams), -1)  # stream by stream: [T, n*D]
    out = linear(flat, fn)
    out *= rms_scale(flat, epsilon)
    return out


def gates(streams: Float, hc: HyperConnection, g: Geometry) -> tuple[Float, Float]:
    """Input gates [T, n] of one sub-layer, and for `spread` its mix [T, n, n + 1]: C transposed, then output gates."""
    n, epsilon = g.hyper_connection_count, np.float32(g.hyper_connection_epsilon)
    scaled = mixes(streams, hc.fn, g.attention_layer_norm_rms_epsilon)
    scaled *= hc.scale  # one per mix, see expand_scale
    scaled += hc.base
    opened = sigmoid(scaled[:, : 2 * n])
    mixing = sinkhorn(scaled[:, 2 * n :].reshape(-1, n, n), g.hyper_connection_sinkhorn_iterations, epsilon)
    mix = np.empty((len(streams), n, n + 1), np.float32)
    mix[:, :, :n] = mixing.swapaxes(1, 2)
    np.multiply(opened[:, n:], 2, out=mix[:, :, n])
    return opened[:, :n] + epsilon, mix


def sinkhorn(logits: Float, iterations: int, epsilon: np.float32) -> Float:
    """Nearly doubly stochastic [T, n, n]: row softmax, then columns and rows divided by sums (+ epsilon) in turn."""
    if len(logits) <= FEW and logits.shape[1] == 4:
        few = [_sinkhorn_of_one(one, iterations, float(epsilon)) for one in logits.tolist()]
        return np.array(few, np.float32).reshape(logits.shape)
    m = np.ascontiguousarray(logits.transpose(1, 2, 0))  # [n, n, T]: every step runs along the tokens
    m -= m.max(1, keepdims=True)
    np.exp(m, out=m)
    m /= m.sum(1, keepdims=True)
    m += epsilon
    rows, columns = np.empty_like(m[:, :1]), np.empty_like(m[:1])
    for step in range(iterations):
        if step:  # the softmax was the first row step
            m /= np.add(m.sum(1, keepdims=True, out=rows), epsilon, out=rows)
        m /= np.add(m.sum(0, keepdims=True, out=columns), epsilon, out=columns)
    return m.transpose(2, 0, 1)


def _sinkhorn_of_one(logits: list[list[float]], iterations: int, epsilon: float) -> list[float]:
    """One token's 4 by 4 matrix in plain floats: decode does this twice a layer, and numpy calls would cost more.

    The divisions are kept apart as one factor per row and one per column.
    """
    (a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3), (d0, d1, d2, d3) = (_softmax(r, epsilon) for r in logits)
    a = b = c = d = 1.0  # row factors
    w = x = y = z = 1.0  # column factors
    for step in range(iterations):
        if step:  # the softmax was the first row step
            a /= a * (a0 * w + a1 * x + a2 * y + a3 * z) + epsilon
            b /= b * (b0 * w + b1 * x + b2 * y + b3 * z) + epsilon
            c /= c * (c0 * w + c1 * x + c2 * y + c3 * z) + epsilon
            d /= d * (d0 * w + d1 * x + d2 * y + d3 * z) + epsilon
        w /= w * (a0 * a + b0 * b + c0 * c + d0 * d) + epsilon
        x /= x * (a1 * a + b1 * b + c1 * c + d1 * d) + epsilon
        y /= y * (a2 * a + b2 * b + c2 * c + d2 * d) + epsilon
        z /= z * (a3 * a + b3 * b + c3 * c + d3 * d) + epsilon
    rows = (a, a0, a1, a2, a3), (b, b0, b1, b2, b3), (c, c0, c1, c2, c3), (d, d0, d1, d2, d3)
    return [r * s for r, s0, s1, s2, s3 in rows for s in (s0 * w, s1 * x, s2 * y, s3 * z)]


def _softmax(row: list[float], epsilon: float) -> list[float]:
    top = max(row)
    raised = [math.exp(value - top) for value in row]
    total = sum(raised)
    return [value / total + epsilon for value in raised]


def collapse(streams: Float, gates: Float) -> Float:
    """sum_k gate_k X_k of streams [T, n, D] and gates [T, n]: [T, D]."""
    if len(streams) == 1:
        return gates.dot(streams[0])
    return np.matmul(gates[:, None, :], streams)[:, 0]


def spread(streams: Float, y: Float, mix: Float) -> Float:
    """X'_k = post_k y + sum_j C_jk X_j, summed over the row index of C. [T, n, D]

    One product with y as one more stream: to broadcast it over the streams takes several times as long.
    """
    terms = np.concatenate([streams, y[:, None]], axis=1)
    return mix[0].dot(terms[0])[None] if len(y) == 1 else mix @ terms
