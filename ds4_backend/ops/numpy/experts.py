"""Router and mixture of experts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ds4_backend.ops.base import Experts, Router
from ds4_backend.ops.numpy.arithmetic import linear, sigmoid

Float = NDArray[np.float32]
Observer = Callable[[str, NDArray[np.intp], Float], None]
"""Called with `gate_up` or `down`, expert ids [R] and the rows [R, width] that entered those experts."""


def route(x: Float, router: Router, ids: NDArray[np.int32], used: int, scale: float) -> tuple[NDArray[np.intp], Float]:
    """Expert ids [T, k] and their weights [T, k]: sqrt(softplus(score)), normalised over the chosen, scaled.

    The bias moves the choice only, never the weights; a hash-routed layer chooses by token id.
    """
    affinity = np.sqrt(np.logaddexp(linear(x, router.gate), np.float32(0)))
    if router.table is not None:
        chosen = router.table[ids].astype(np.intp)
    else:
        chosen = np.argsort(-(affinity + router.bias), axis=1, kind="stable")[:, :used]
    weights = affinity[np.arange(len(x))[:, None], chosen]
    return chosen, weights / weights.sum(1, keepdims=True) * np.float32(scale)


def mixture(x: Float, chosen: NDArray[np.intp], weights: Float, e: Experts, observe: Observer | None = None) -> Float:
    """Routed experts' weighted sum plus the shared expert: [T, D]."""
    if len(x) == 1 and observe is None:
        return _of_one(x[0], chosen[0].tolist(), weights[0], e)[None]
    out = linear(swiglu(linear(x, e.shared_gate), linear(x, e.shared_up), e.clamp), e.shared_down)
    return out + _grouped(x, chosen, weights, e, observe)


def swiglu(gate: Float, up: Float, clamp: float) -> Float:
    """silu(min(gate, clamp)) * clip(up, -clamp, clamp): the gate is clamped from above only."""
    gate = np.minimum(gate, np.float32(clamp))
    return gate * sigmoid(gate) * np.clip(up, np.float32(-clamp), np.float32(clamp))


def _of_one(x: Float, chosen: list[int], weights: Float, e: Experts) -> Float:
    """One token [D]: its experts and the shared one side by side, so that the activation runs once."""
    gates = [e.gate[i] for i in chosen] + [e.shared_gate]
    ups = [e.up[i] for i in chosen] + [e.shared_up]
    downs = [e.down[i] for i in chosen] + [e.shared_down]
    middle = swiglu(np.array([w @ x for w in gates]), np.array([w @ x for w in ups]), e.clamp)  # [k + 1, F]
    middle[:-1] *= weights[:, None]
    return sum(down @ row for down, row in zip(downs, middle, strict=True))


def _grouped(x: Float, chosen: NDArray[np.intp], weights: Float, e: Experts, observe: Observer | None) -> Float:
    """All (token, expert) pairs, sorted by expert so that each expert's weights are used once."""
    used = chosen.shape[1]
    order = np.argsort(chosen, axis=None, kind="stable")
    experts, tokens = chosen.reshape(-1)[order], order // used
    result = np.empty((len(order), x.shape[1]), np.float32)
    bounds = np.flatnonzero(np.diff(experts, prepend=-1, append=-1))
    for low, high in pairwise(bounds):
        expert, rows = experts[low], x[tokens[low:high]]
        middle = swiglu(rows @ e.gate[expert].T, rows @ e.up[expert].T, e.clamp)
        middle *= weights.reshape(-1)[order[low:high], None]
        if observe is not None:
            observe("gate_up", experts[low:high], rows)
            observe("down", experts[low:high], middle)
        result[order[low:high]] = middle @ e.down[expert].T
    return result.reshape(len(x), used, -1).sum(1)
