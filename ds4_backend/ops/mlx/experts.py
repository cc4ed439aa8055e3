"""Router and mixture of experts."""

from __future__ import annotations

from itertools import pairwise

import mlx.core as mx
import numpy as np

from ds4_backend.ops.base import Experts, Router
from ds4_backend.ops.mlx.arithmetic import largest
from ds4_backend.ops.mlx.linear import Blocks, multiply


def route(x: mx.array, router: Router, ids: mx.array, used: int, scale: float) -> tuple[mx.array, mx.array]:
    """Expert ids [T, k] and their weights [T, k]: sqrt(softplus(score)), normalised over the chosen, scaled.

    The bias moves the choice only, never the weights; a hash-routed layer chooses by token id.
    """
    affinity = mx.sqrt(mx.logaddexp(multiply(x, router.gate), 0.0))
    if router.bias is not None:
        chosen = largest(affinity + router.bias, used)
    else:
        assert router.table is not None
        chosen = router.table[ids]
    weights = mx.take_along_axis(affinity, chosen, axis=1)
    return chosen, weights / weights.sum(axis=1, keepdims=True) * scale


def mixture(x: mx.array, chosen: mx.array, weights: mx.array, e: Experts) -> mx.array:
    """Routed experts' weighted sum plus the shared expert: [T, D].

    The chosen ids come to the host, once a layer: they say which blocks to decode. Each chosen expert is decoded once
    and evaluated before the next, so memory is bounded by one expert.
    """
    used = chosen.shape[1]
    ids = np.array(chosen).reshape(-1)
    order = np.argsort(ids, kind="stable")  # (token, choice) pairs by expert
    bounds = np.flatnonzero(np.diff(ids[order], prepend=-1, append=-1))
    parts = []
    for low, high in pairwise(bounds.tolist()):
        pairs = mx.array(order[low:high])
        parts.append(_expert(x[pairs // used], weights.reshape(-1)[pairs], e, int(ids[order[low]])))
        mx.eval(parts[-1])
    routed = mx.concatenate(parts)[mx.array(np.argsort(order))].reshape(*chosen.shape, -1)  # [T, k, D]
    return routed.sum(axis=1) + _feed_forward(x, e.shared_gate, e.shared_up, e.shared_down, e.clamp, None)


def _expert(x: mx.array, weights: mx.array, e: Experts, index: int) -> mx.array:
    gate, up, down = e.gate.expert(index), e.up.expert(index), e.down.expert(index)
    return _feed_forward(x, gate, up, down, e.clamp, weights[:, None])


def _feed_forward(
    x: mx.array, gate: Blocks, up: Blocks, down: Blocks, clamp: float, weights: mx.array | None
) -> mx.array:
    """down(weights * silu(min(gate, clamp)) * clip(up, -clamp, clamp)): the gate is clamped from above only."""
    g = mx.minimum(multiply(x, gate), clamp)
    middle = g * mx.sigmoid(g) * mx.clip(multiply(x, up), -clamp, clamp)
    return multiply(middle if weights is None else middle * weights, down)
