"""Hyper-connections: collapse n residual streams into a sub-layer's input, spread its output back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.ops.base import HyperConnection
from ds4_backend.ops.numpy.arithmetic import linear, rms_scale, sigmoid

Float = NDArray[np.float32]


def mixes(streams: Float, fn: Float, epsilon: float) -> Float:
    """fn . rms(flat(X)): [T, mixes]. The scalar 1/rms is applied after the product, which is the same."""
    flat = streams.reshape(len(streams), -1)  # stream by stream: [T, n*D]
    return linear(flat, fn) * rms_scale(flat, epsilon)


def gates(streams: Float, hc: HyperConnection, g: Geometry) -> tuple[Float, Float, Float]:
    """Input gates [T, n], output gates [T, n] and stream mixing C [T, n, n] of one sub-layer."""
    n, epsilon = g.hyper_connection_count, np.float32(g.hyper_connection_epsilon)
    m = mixes(streams, hc.fn, g.attention_layer_norm_rms_epsilon)
    scaled = m * np.repeat(hc.scale, (n, n, n * n)) + hc.base
    opened = sigmoid(scaled[:, : 2 * n])
    mixing = sinkhorn(scaled[:, 2 * n :].reshape(-1, n, n), g.hyper_connection_sinkhorn_iterations, epsilon)
    return opened[:, :n] + epsilon, 2 * opened[:, n:], mixing


def sinkhorn(logits: Float, iterations: int, epsilon: np.float32) -> Float:
    """Nearly doubly stochastic [T, n, n]: row softmax, then columns and rows divided by their sums (+ epsilon) in turn.

    The divisions are kept apart as one factor per row and one per column, so each half step is a matrix-vector product.
    """
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    start = raised / raised.sum(-1, keepdims=True) + epsilon
    if len(start) == 1:
        row, column = _factors_of_one(start[0], iterations, epsilon)
        return (row[:, None] * start[0] * column)[None]
    transposed = np.ascontiguousarray(start.swapaxes(-1, -2))
    rows = np.ones((*start.shape[:-1], 1), np.float32)
    columns = rows / (transposed @ rows + epsilon)
    for _ in range(iterations - 1):
        rows /= rows * (start @ columns) + epsilon
        columns /= columns * (transposed @ rows) + epsilon
    return rows * start * columns.swapaxes(-1, -2)


def _factors_of_one(start: Float, iterations: int, epsilon: np.float32) -> tuple[Float, Float]:
    """Row and column factors [n] of one token's matrix; `dot` on plain vectors costs a third of a batched product."""
    transposed, eps = np.ascontiguousarray(start.T), np.full(len(start), epsilon)
    row = np.ones(len(start), np.float32)
    column = row / (transposed.dot(row) + eps)
    for _ in range(iterations - 1):
        row /= row * start.dot(column) + eps
        column /= column * transposed.dot(row) + eps
    return row, column


def spread(streams: Float, y: Float, output_gates: Float, mixing: Float) -> Float:
    """X'_k = post_k y + sum_j C_jk X_j, summed over the row index of C. [T, n, D]"""
    mixed = mixing.swapaxes(-1, -2) @ streams
    mixed += output_gates[:, :, None] * y[:, None, :]
    return mixed
