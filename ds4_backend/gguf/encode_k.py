"""The search behind Q2_K and Q4_K: which units, scales, offsets and codes come nearest to 256 given weights.

It minimises sum w·(x - decoded)^2 in three steps. First every group alone gets a real-valued scale and offset: from
several starting ranges, nearest codes and weighted least squares take turns. Then the units are chosen for which
integer scales and offsets come nearest to these. Last, the integers move to their best neighbours with the codes
recomputed, and the units are solved for again, in turns; the best state seen is kept.

`k_blocks` says what these things are and how arrays lie. This file does not know bytes, rows, or what the importance
stands for. It expects |x| <= 1 and w > 0 of order one, in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import numpy as np

from ds4_backend.gguf.half import round_units
from ds4_backend.gguf.k_blocks import KBlocks, KShape, Problem, dot, group_errors, make_problem, nearest_codes, over

ROUNDS = 2  # times the units are solved for anew; a third gains less than 0.1 % of the error
DESCENTS = 2  # turns of codes and least squares from each starting range
UNIT_CANDIDATES = 24
NEIGHBOURS = tuple((i, j) for i in (0, -1, 1) for j in (0, -1, 1))  # steps of (scale, offset); staying comes first


@dataclass(frozen=True)
class _Fit:
    """A real-valued scale and offset for every group, and sums over the codes they lead to; each [G, B]."""

    scale: np.ndarray
    offset: np.ndarray
    sum_wq: np.ndarray
    sum_wqq: np.ndarray
    error: np.ndarray  # less the constant sum w·x^2


@dataclass(frozen=True)
class _State:
    """A complete answer for every block; the codes follow from it. The units are f16 values divided by peak."""

    unit: np.ndarray  # [B]
    offset_unit: np.ndarray  # [B]
    scales: np.ndarray  # [G, B]
    offsets: np.ndarray  # [G, B]
    error: np.ndarray  # [B] sum w·(x - decoded)^2


_Answer = TypeVar("_Answer", _Fit, _State)


def encode_k(x: np.ndarray, w: np.ndarray, peak: np.ndarray, shape: KShape) -> KBlocks:
    """Encode super-blocks of weights x·peak.

    x, w: float32 [B, 256], |x| <= 1, w > 0; peak: float32 [B] > 0, small enough that the units fit f16.
    """
    problem = make_problem(x, w, peak, shape)
    best = _refine(problem, _start_state(problem, _fit_groups(problem)))
    codes = nearest_codes(problem, best.scales * best.unit, best.offsets * best.offset_unit)
    return KBlocks(
        unit=(best.unit * peak).astype(np.float16),
        offset_unit=(best.offset_unit * peak).astype(np.float16),
        scales=best.scales.T.astype(np.uint8),
        offsets=best.offsets.T.astype(np.uint8),
        codes=codes.transpose(2, 1, 0).reshape(x.shape).astype(np.uint8),
    )


def _better(a: _Answer, b: _Answer) -> _Answer:
    """The answer of smaller error, group by group or block by block; `a` where they are equal."""
    choose_b = b.error < a.error
    return type(a)(**{name: np.where(choose_b, value, getattr(a, name)) for name, value in vars(b).items()})


def _fit_groups(problem: Problem) -> _Fit:
    return reduce(_better, (_descend(problem, scale, offset) for scale, offset in _starting_ranges(problem)))


def _starting_ranges(problem: Problem) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(scale, offset) pairs [G, B]: the group's range with each end pulled in by each factor. An offset is >= 0."""
    low = np.minimum(problem.x.min(axis=0), 0)
    high = problem.x.max(axis=0)
    for a in problem.shape.shrinks:
        for b in problem.shape.shrinks:
            yield np.maximum(high * b - low * a, 0) / problem.shape.top_code, -low * a


def _descend(problem: Problem, scale: np.ndarray, offset: np.ndarray) -> _Fit:
    """Take turns: nearest codes for scale and offset, best scale and offset for the codes."""
    for _ in range(DESCENTS):
        q = nearest_codes(problem, scale, offset)
        wq = problem.w * q
        sums = wq.sum(axis=0), dot(wq, q), dot(wq, problem.x)
        scale, offset = _least_squares(problem, offset, *sums)
    sum_wq, sum_wqq, sum_wqx = sums
    error = scale * (scale * sum_wqq - 2 * sum_wqx) + offset * (2 * problem.sum_wx + offset * problem.sum_w)
    return _Fit(scale, offset, sum_wq, sum_wqq, error - 2 * scale * offset * sum_wq)


def _least_squares(
    problem: Problem, offset: np.ndarray, wq: np.ndarray, wqq: np.ndarray, wqx: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise sum w·(scale·q - offset - x)^2 over scale >= 0 and offset >= 0.

    Where all codes of a group agree the two are not determined: then the offset stays and the scale follows, or, if the
    codes are 0 and the scale is of no use, the offset is the best one.
    """
    det = problem.sum_w * wqq - wq * wq
    solvable = det > 1e-6 * problem.sum_w * wqq
    det = np.where(solvable, det, 1)
    free_offset = (wq * wqx - wqq * problem.sum_wx) / det
    free_scale = (problem.sum_w * wqx - wq * problem.sum_wx) / det
    free_offset = np.where(solvable, free_offset, np.where(wqq > 0, offset, -problem.sum_wx / problem.sum_w))
    bound_offset = np.maximum(free_offset, 0)
    bound_scale = np.maximum(over(wqx + bound_offset * wq, wqq), 0)
    return np.where(solvable & (free_offset >= 0), np.maximum(free_scale, 0), bound_scale), bound_offset


def _start_state(problem: Problem, fit: _Fit) -> _State:
    """Units and integers near the fit.

    A wrong scale hurts less where the offset can follow it: its cost is the codes' variance, and the second unit is
    chosen for the offsets that belong to the rounded scales.
    """
    top = problem.shape.top_scale
    mean = fit.sum_wq / problem.sum_w  # of the codes
    unit = round_units(_best_unit(fit.scale, fit.sum_wqq - fit.sum_wq * mean, top), problem.peak)
    scales = _integers(fit.scale, unit, top)
    wanted = np.maximum(fit.offset + (scales * unit - fit.scale) * mean, 0)
    offset_unit = round_units(_best_unit(wanted, problem.sum_w, top), problem.peak)
    unknown = np.full(unit.shape, np.inf, np.float32)
    return _State(unit, offset_unit, scales, _integers(wanted, offset_unit, top), unknown)


def _integers(values: np.ndarray, unit: np.ndarray, top: int) -> np.ndarray:
    return np.clip(np.rint(values * over(np.float32(1), unit)), 0, top)


def _best_unit(values: np.ndarray, cost: np.ndarray, top: int) -> np.ndarray:
    """The unit [B] of which integers 0..top come nearest to values [G, B], by sum cost·(difference)^2."""
    highest = values.max(axis=0)
    best = highest / top
    least = np.full(best.shape, np.inf, np.float32)
    for steps in np.linspace(0.6 * top, top + 1.5, UNIT_CANDIDATES, dtype=np.float32):
        unit = highest / steps
        error = (cost * (_integers(values, unit, top) * unit - values) ** 2).sum(axis=0)
        best = np.where(error < least, unit, best)
        least = np.minimum(error, least)
    return best


def _refine(problem: Problem, start: _State) -> _State:
    best = last = _best_neighbours(problem, start)
    for _ in range(ROUNDS):
        last = _best_neighbours(problem, _solve_units(problem, last))
        best = _better(best, last)
    return best


def _best_neighbours(problem: Problem, state: _State) -> _State:
    """Move every group's scale and offset by -1, 0 or 1 each, to where the true error is smallest."""
    top = problem.shape.top_scale
    scales, offsets = state.scales, state.offsets
    least = np.full(scales.shape, np.inf, np.float32)
    for i, j in NEIGHBOURS:
        s, m = np.clip(state.scales + i, 0, top), np.clip(state.offsets + j, 0, top)
        error = group_errors(problem, s * state.unit, m * state.offset_unit)
        better = error < least
        scales, offsets = np.where(better, s, scales), np.where(better, m, offsets)
        least = np.minimum(error, least)
    return _State(state.unit, state.offset_unit, scales, offsets, least.sum(axis=0))


def _solve_units(problem: Problem, state: _State) -> _State:
    """Weighted least squares for both units with all integers fixed; unchanged where that gives no valid answer."""
    s, m = state.scales, state.offsets
    q = nearest_codes(problem, s * state.unit, m * state.offset_unit)
    wq = problem.w * q
    ss, sm = (s * s * dot(wq, q)).sum(axis=0), (s * m * wq.sum(axis=0)).sum(axis=0)
    mm = (m * m * problem.sum_w).sum(axis=0)
    sx, mx = (s * dot(wq, problem.x)).sum(axis=0), (m * problem.sum_wx).sum(axis=0)
    det = ss * mm - sm * sm
    solvable = det > 1e-6 * ss * mm
    det = np.where(solvable, det, 1)
    unit, offset_unit = (mm * sx - sm * mx) / det, (sm * sx - ss * mx) / det
    solvable &= (unit > 0) & (offset_unit >= 0)
    unit = round_units(np.where(solvable, unit, state.unit), problem.peak)
    offset_unit = round_units(np.where(solvable, offset_unit, state.offset_unit), problem.peak)
    return _State(unit, offset_unit, s, m, state.error)
