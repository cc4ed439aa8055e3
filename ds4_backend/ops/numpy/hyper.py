"""Hyper-connections: collapse n residual streams into a sub-layer's input, spread its output back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.ops.base import HyperConnection
from ds4_backend.ops.numpy.arithmetic import linear, rms_scale, sigmoid

Float = NDArray[np.float32]


def expand_scale(scale: Float, n: int) -> Float:
    """The three scales of a hyper-connection as one per mix: [n(n+2)]."""
    return np.repeat(scale, (n, n, n * n))


def mixes(streams: Float, fn: Float, epsilon: float) -> Float:
    """fn . rms(flat(X)): [T, mixes]. The scalar 1/rms is applied after the product, which is the same."""
    flat = streams.reshape(len(streams), -1)  # stream by stream: [T, n*D]
    return linear(flat, fn) * rms_scale(flat, epsilon)


def gates(streams: Float, hc: HyperConnection, g: Geometry) -> tuple[Float, Float, Float]:
    """Input gates [T, n], output gates [T, n] and stream mixing C [T, n, n] of one sub-layer."""
    n, epsilon = g.hyper_connection_count, np.float32(g.hyper_connection_epsilon)
    m = mixes(streams, hc.fn, g.attention_layer_norm_rms_epsilon)
    scaled = m * hc.scale + hc.base  # hc.scale: one per mix, see expand_scale
    opened = sigmoid(scaled[:, : 2 * n])
    mixing = sinkhorn(scaled[:, 2 * n :].reshape(-1, n, n), g.hyper_connection_sinkhorn_iterations, epsilon)
    return opened[:, :n] + epsilon, 2 * opened[:, n:], mixing


def sinkhorn(logits: Float, iterations: int, epsilon: np.float32) -> Float:
    """Nearly doubly stochastic [T, n, n]: row softmax, then columns and rows divided by their sums (+ epsilon) in turn.

    The divisions are kept apart as one factor per row and one per column, so each half step is a matrix-vector product.
    """
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    start = raised / raised.sum(-1, keepdims=True) + epsilon
    if start.shape == (1, 4, 4):
        return _sinkhorn_of_one(start, iterations, float(epsilon))
    transposed = np.ascontiguousarray(start.swapaxes(-1, -2))
    rows = np.ones((*start.shape[:-1], 1), np.float32)
    columns = rows / (transposed @ rows + epsilon)
    for _ in range(iterations - 1):
        rows /= rows * (start @ columns) + epsilon
        columns /= columns * (transposed @ rows) + epsilon
    return rows * start * columns.swapaxes(-1, -2)


def _sinkhorn_of_one(start: Float, iterations: int, epsilon: float) -> Float:
    """One token's 4 by 4 matrix in plain floats: decode does this twice a layer, and numpy calls would cost more."""
    (a0, a1, a2, a3), (b0, b1, b2, b3), (c0, c1, c2, c3), (d0, d1, d2, d3) = start[0].tolist()
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
    rows, columns = np.array([a, b, c, d], np.float32), np.array([w, x, y, z], np.float32)
    return rows[:, None] * start * columns


def spread(streams: Float, y: Float, output_gates: Float, mixing: Float) -> Float:
    """X'_k = post_k y + sum_j C_jk X_j, summed over the row index of C. [T, n, D]"""
    mixed = mixing.swapaxes(-1, -2) @ streams
    mixed += output_gates[:, :, None] * y[:, None, :]
    return mixed
