"""Router and mixture of experts."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from math import exp, log1p, nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ds4_backend.ops.base import Experts, Router
from ds4_backend.ops.numpy.arithmetic import linear
from ds4_backend.ops.numpy.store import Store

Float = NDArray[np.float32]
Observer = Callable[[str, NDArray[np.intp], Float], None]
"""Called with `gate_up` or `down`, expert ids [R] and the rows [R, width] that entered those experts."""
SMALL = 32
"""Up to so many experts one token is routed faster in plain floats than by numpy calls."""


class Packed(NamedTuple):
    """One layer's experts, the shared one last, transposed: gate beside up [E + 1, D, 2F], down [E + 1, F, D]."""

    layer: int
    gate_up: Float
    down: Float
    clamp: float


def pack(e: Experts, store: Store) -> Packed:
    """Gate and up read the same input, so they are one matrix; the shared expert is one more that every token uses."""
    count, width, entering = e.gate.shape
    gate_up, down = store.empty(count + 1, entering, 2 * width), store.empty(count + 1, width, entering)
    gate_up[:-1, :, :width], gate_up[-1, :, :width] = e.gate.swapaxes(1, 2), e.shared_gate.T
    gate_up[:-1, :, width:], gate_up[-1, :, width:] = e.up.swapaxes(1, 2), e.shared_up.T
    down[:-1], down[-1] = e.down.swapaxes(1, 2), e.shared_down.T
    return Packed(e.layer, gate_up, down, e.clamp)


def route(x: Float, router: Router, ids: NDArray[np.int32], used: int, scale: float) -> tuple[NDArray[np.intp], Float]:
    """Expert ids [T, k] and their weights [T, k]: sqrt(softplus(score)), normalised over the chosen, scaled.

    The bias moves the choice only, never the weights; a hash-routed layer chooses by token id.
    """
    scores = linear(x, router.gate)
    if len(x) == 1 and len(router.gate) <= SMALL:
        return _route_of_one(scores[0].tolist(), router, ids, used, scale)
    affinity = np.sqrt(np.logaddexp(scores, np.float32(0)))
    if router.table is not None:
        chosen = router.table[ids].astype(np.intp)
    else:
        chosen = (-(affinity + router.bias)).argsort(axis=1, kind="stable")[:, :used]
    weights = affinity[np.arange(len(x))[:, None], chosen]
    weights *= np.float32(scale) / weights.sum(1, keepdims=True)
    return chosen, weights


def _route_of_one(
    scores: list[float], router: Router, ids: NDArray[np.int32], used: int, scale: float
) -> tuple[NDArray[np.intp], Float]:
    """One token in plain floats."""
    affinity = [sqrt(log1p(exp(-abs(score))) + max(score, 0.0)) for score in scores]
    if router.bias is None:
        assert router.table is not None
        chosen = router.table[ids[0]].tolist()
    else:
        rank = [a + b for a, b in zip(affinity, router.bias.tolist(), strict=True)]
        chosen = sorted(range(len(rank)), key=rank.__getitem__, reverse=True)[:used]  # stable: ties to the lower id
    weights = [affinity[expert] for expert in chosen]
    scale /= sum(weights) or nan  # damaged weights give nonsense, as with many tokens, and no error
    return np.array([chosen], np.intp), np.array([[scale * weight for weight in weights]], np.float32)


def mixture(x: Float, chosen: NDArray[np.intp], weights: Float, e: Packed, observe: Observer | None = None) -> Float:
    """Routed experts' weighted sum plus the shared expert: [T, D]."""
    if len(x) == 1 and observe is None:
        return _of_one(x[0], chosen[0].tolist(), weights[0], e)[None]
    return _grouped(x, chosen, weights, e, observe)


def swiglu(gate_up: Float, clamp: float) -> Float:
    """silu(min(gate, clamp)) * clip(up, -clamp, clamp) of [R, 2F], gate before up: the gate is clamped from above only.

    Overwrites its input.
    """
    width = gate_up.shape[1] // 2
    np.minimum(gate_up, clamp, out=gate_up)
    np.maximum(gate_up, _lower(width, clamp), out=gate_up)
    gate, up = gate_up[:, :width], gate_up[:, width:]
    out = np.negative(gate)
    np.exp(out, out=out)
    out += 1
    np.divide(gate, out, out=out)
    out *= up
    return out


@lru_cache
def _lower(width: int, clamp: float) -> Float:
    """Bounds [2F] from below: of the gate 88, as e^88 is the last that float32 holds (silu is 0 there), then of up."""
    return np.repeat(np.array([-88, -clamp], np.float32), width)


def _of_one(x: Float, chosen: list[int], weights: Float, e: Packed) -> Float:
    """One token [D]: its experts and the shared one side by side, so that the activation runs once."""
    chosen.append(-1)
    entered = np.empty((len(chosen), e.gate_up.shape[2]), np.float32)
    for row, expert in enumerate(chosen):
        x.dot(e.gate_up[expert], entered[row])
    middle = swiglu(entered, e.clamp)  # [k + 1, F]
    middle[:-1] *= weights[:, None]
    out = middle[-1].dot(e.down[-1])
    for row, expert in enumerate(chosen[:-1]):
        out += middle[row].dot(e.down[expert])
    return out


def _grouped(x: Float, chosen: NDArray[np.intp], weights: Float, e: Packed, observe: Observer | None) -> Float:
    """All (token, expert) pairs, sorted by expert so that each expert's weights are used once; then the shared one."""
    tokens, used = chosen.shape
    order = np.argsort(chosen, axis=None, kind="stable")
    experts = chosen.reshape(-1)[order]
    bounds = [*np.flatnonzero(np.diff(experts, prepend=-1)).tolist(), len(order)]
    parts = [(experts[low], low, high) for low, high in pairwise(bounds)] + [(-1, len(order), len(order) + tokens)]
    rows = x.take(np.concatenate([order // used, np.arange(tokens)]), axis=0)
    entered = _each(rows, e.gate_up, parts)
    middle = swiglu(entered, e.clamp)
    middle[: len(order)] *= weights.reshape(-1)[order, None]
    if observe is not None:
        observe("gate_up", experts, rows[: len(order)])
        observe("down", experts, middle[: len(order)])
    left = _each(middle, e.down, parts)
    out = left[len(order) :]
    place = np.empty_like(order)
    place[order] = np.arange(len(order))  # where a pair went
    for column in place.reshape(tokens, used).T:
        out += left.take(column, axis=0)
    return out


def _each(rows: Float, matrices: Float, parts: list[tuple[int, int, int]]) -> Float:
    """Rows `low` to `high` through the matrix [in, out] of their expert, for every (expert, low, high)."""
    out = np.empty((len(rows), matrices.shape[2]), np.float32)
    for expert, low, high in parts:
        np.matmul(rows[low:high], matrices[expert], out=out[low:high])
    return out
