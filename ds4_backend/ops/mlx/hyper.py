"""Hyper-connections: collapse n residual streams into a sub-layer's input, spread its output back."""

from __future__ import annotations

import mlx.core as mx

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.ops.base import HyperConnection
from ds4_backend.ops.mlx.linear import Blocks, multiply


def mixes(streams: mx.array, fn: Blocks, epsilon: float) -> mx.array:
    """fn . rms(flat(X)): [T, n, D] -> [T, mixes]. One mean over all streams."""
    flat = streams.reshape(streams.shape[0], -1)  # stream by stream
    return multiply(mx.fast.rms_norm(flat, None, epsilon), fn)


def gates(streams: mx.array, hc: HyperConnection, g: Geometry) -> tuple[mx.array, mx.array, mx.array]:
    """Input gates [T, n], output gates [T, n] and stream mixing C [T, n, n] of one sub-layer."""
    n, epsilon = g.hyper_connection_count, g.hyper_connection_epsilon
    m = mixes(streams, hc.fn, g.attention_layer_norm_rms_epsilon)
    inputs = mx.sigmoid(m[:, :n] * hc.scale[0] + hc.base[:n]) + epsilon
    outputs = 2 * mx.sigmoid(m[:, n : 2 * n] * hc.scale[1] + hc.base[n : 2 * n])
    logits = (m[:, 2 * n :] * hc.scale[2] + hc.base[2 * n :]).reshape(-1, n, n)
    return inputs, outputs, sinkhorn(logits, g.hyper_connection_sinkhorn_iterations, epsilon)


def sinkhorn(logits: mx.array, iterations: int, epsilon: float) -> mx.array:
    """Nearly doubly stochastic [T, n, n]: row softmax, then columns and rows divided by their sums (+ epsilon)."""
    c = mx.softmax(logits, axis=2, precise=True) + epsilon
    c = c / (c.sum(axis=1, keepdims=True) + epsilon)
    for _ in range(iterations - 1):
        c = c / (c.sum(axis=2, keepdims=True) + epsilon)
        c = c / (c.sum(axis=1, keepdims=True) + epsilon)
    return c


def collapse(streams: mx.array, weights: mx.array) -> mx.array:
    """sum_i weights_i X_i: [T, n, D] -> [T, D]."""
    return (weights[..., None] * streams).sum(axis=1)


def spread(streams: mx.array, y: mx.array, output_gates: mx.array, mixing: mx.array) -> mx.array:
    """X'_k = post_k y + sum_j C_jk X_j, summed over the row index of C. [T, n, D]"""
    return output_gates[..., None] * y[:, None] + mixing.swapaxes(1, 2) @ streams
