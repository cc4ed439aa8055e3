"""Hyper-connections: collapse n residual streams into a sub-layer's input, spread its output back."""

from __future__ import annotations

from functools import lru_cache
from math import exp

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.ops.base import HyperConnection
from ds4_backend.ops.numpy.arithmetic import linear, rms_scale, sigmoid

Float = NDArray[np.float32]
FEW = 4
"""Up to so many tokens the gates are faster in plain floats, token by token, than as numpy calls."""


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
    n, epsilon = g.hyper_connection_count, g.hyper_connection_epsilon
    scaled = mixes(streams, hc.fn, g.attention_layer_norm_rms_epsilon)
    scaled *= hc.scale  # one per mix, see expand_scale
    scaled += hc.base
    if len(scaled) <= FEW and n == 4:
        few = [_gates_of_one(one, g.hyper_connection_sinkhorn_iterations, epsilon) for one in scaled.tolist()]
        both = np.array(few, np.float32)
        return both[:, :n], both[:, n:].reshape(-1, n, n + 1)
    opened = sigmoid(scaled[:, : 2 * n])
    mixing = sinkhorn(scaled[:, 2 * n :].reshape(-1, n, n), g.hyper_connection_sinkhorn_iterations, np.float32(epsilon))
    mix = np.empty((len(streams), n, n + 1), np.float32)
    mix[:, :, :n] = mixing.swapaxes(1, 2)
    np.multiply(opened[:, n:], 2, out=mix[:, :, n])
    return opened[:, :n] + np.float32(epsilon), mix


def sinkhorn(logits: Float, iterations: int, epsilon: np.float32) -> Float:
    """Nearly doubly stochastic [T, n, n]: row softmax, then columns and rows divided by sums (+ epsilon) in turn."""
    tokens, n = logits.shape[:2]
    by_row, by_column = _summing(n, float(epsilon))
    m = np.empty((n * n + 1, tokens), np.float32)  # every step runs along the tokens
    m[-1] = 1  # what epsilon is multiplied with
    matrix = m[:-1]
    square = matrix.reshape(n, n, tokens)
    square[:] = logits.transpose(1, 2, 0)
    square -= square.max(1, keepdims=True)
    np.exp(matrix, out=matrix)
    square /= square.sum(1, keepdims=True)
    matrix += epsilon
    sums = np.empty_like(matrix)
    for step in range(iterations):
        if step:  # the softmax was the first row step
            matrix /= np.dot(by_row, m, out=sums)
        matrix /= np.dot(by_column, m, out=sums)
    return square.transpose(2, 0, 1)


@lru_cache
def _summing(n: int, epsilon: float) -> tuple[Float, Float]:
    """Two matrices [n*n, n*n + 1] that give every entry of a flat [n, n] the sum of its row, or column, + epsilon: with
    one product for both sum and addition, a step takes three quarters of the time."""
    same, all_ = np.eye(n, dtype=np.float32), np.ones((n, n), np.float32)
    last = np.full((n * n, 1), epsilon, np.float32)
    return np.hstack([np.kron(same, all_), last]), np.hstack([np.kron(all_, same), last])


def _gates_of_one(scaled: list[float], iterations: int, epsilon: float) -> list[float]:
    """One token's 4 input gates and its mix [4, 5], flat, in plain floats: decode does this twice a layer, and numpy
    calls would cost more than the arithmetic."""
    opened = [1 / (1 + exp(-value if value > -88 else 88)) for value in scaled[:8]]
    mixing = sinkhorn_of_one(scaled[8:], iterations, epsilon)
    mix = [value for k in range(4) for value in (*mixing[k::4], 2 * opened[4 + k])]
    return [gate + epsilon for gate in opened[:4]] + mix


def sinkhorn_of_one(logits: list[float], iterations: int, epsilon: float) -> list[float]:
    """`sinkhorn` of one token's 4 by 4 matrix, flat. The divisions are kept apart as a factor per row and column."""
    a0, a1, a2, a3 = _softmax(logits[:4], epsilon)
    b0, b1, b2, b3 = _softmax(logits[4:8], epsilon)
    c0, c1, c2, c3 = _softmax(logits[8:12], epsilon)
    d0, d1, d2, d3 = _softmax(logits[12:], epsilon)
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


def _softmax(row: list[float], epsilon: float) -> tuple[float, float, float, float]:
    top, (a, b, c, d) = max(row), row
    a, b, c, d = exp(a - top), exp(b - top), exp(c - top), exp(d - top)
    total = a + b + c + d
    return a / total + epsilon, b / total + epsilon, c / total + epsilon, d / total + epsilon


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
