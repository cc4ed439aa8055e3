"""The search behind IQ2_XXS: which unit, scales, grid rows and signs come nearest to 256 given weights.

A super-block of 256 weights is 8 groups of 4 vectors of 8 weights. A vector is one of 256 grid rows (positive numbers)
with signs, of which an even number is negative, times step = unit·(0.5 + scale)/4, where unit is the super-block's f16
and scale a 4-bit integer of the group. gguf-py's decoder is the definition, its grid is used.

For magnitudes a of importance w, sum w·(a - step·g)^2 / step = const + step·w·g^2 - 2·(w·a)·g: for a trial step the
cost of all grid rows is one product of [step·w, -2·w·a] with [g^2, g], and the least cost names the row. Where an odd
number of weights is negative one sign must be wrong: the search lets the one do so for which w·a is smallest, whose
magnitude then counts as negative; once the grid row is known, the cheapest sign of all is taken.

This file does not know bytes, rows, or what the importance stands for. It expects |x| <= 1 and w > 0 of order one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, reduce

import numpy as np

from ds4_backend.gguf.half import round_units

GROUPS, VECTORS, LENGTH = 8, 4, 8  # 8 groups of 4 vectors of 8 weights are a super-block
TOP_SCALE = 15
TRIAL_STEPS = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35)  # times the step that gives the group's mean square
UNIT_CANDIDATES = 16
ROUNDS = 2  # choices of unit, then of scales; a third gains less than 0.1 % of the error


@dataclass(frozen=True)
class IQ2Blocks:
    """Encoded super-blocks, not yet packed."""

    unit: np.ndarray  # [B] float16
    scales: np.ndarray  # [B, 8] uint8, 0..15
    rows: np.ndarray  # [B, 8, 4] uint8, grid rows
    negative: np.ndarray  # [B, 8, 4, 8] bool, an even number of them in each vector


@dataclass(frozen=True)
class _Problem:
    """What is to be encoded: importance and signed, weighted magnitudes of every vector; and room to work in."""

    w: np.ndarray  # [B, 32, 8]
    signed: np.ndarray  # [B, 32, 8] w·a, negative where the sign will be wrong
    factors: np.ndarray  # [B, 32, 16] step·w and -2·signed side by side
    cost: np.ndarray  # [B, 32, 256]


@dataclass(frozen=True)
class _Choice:
    """Grid rows for given steps, and the sums over each group that say how good they are."""

    step: np.ndarray  # [B, 8]
    scales: np.ndarray  # [B, 8] the integers the step was made of
    rows: np.ndarray  # [B, 8, 4]
    p: np.ndarray  # [B, 8]
    q: np.ndarray  # [B, 8]

    @property
    def error(self) -> np.ndarray:
        """Error of every group [B, 8] at its step, less the constant sum w·a^2."""
        return self.step * (self.step * self.q - 2 * self.p)


def encode_iq2_xxs(x: np.ndarray, w: np.ndarray, peak: np.ndarray) -> IQ2Blocks:
    """Encode super-blocks of weights x·peak.

    x, w: float32 [B, 256], |x| <= 1, w > 0; peak: float32 [B] > 0, small enough that the unit fits f16.
    """
    x, w = (a.reshape(len(peak), GROUPS * VECTORS, LENGTH) for a in (x, w))  # [B, 32, 8]
    weighted = w * np.abs(x)
    problem = _problem(x, w, weighted)
    unit, choice = _refine(problem, _free_steps(problem, x), peak)
    negative = _signs(x, weighted, choice.rows)
    return IQ2Blocks((unit * peak).astype(np.float16), choice.scales.astype(np.uint8), choice.rows, negative)


@cache
def grid() -> np.ndarray:
    """The 256 grid rows, float32 [256, 8], values 8, 25 and 43 (gguf-py's table)."""
    from gguf.quants import IQ2_XXS

    IQ2_XXS.init_grid()
    assert IQ2_XXS.grid is not None
    return np.ascontiguousarray(IQ2_XXS.grid.reshape(256, LENGTH), np.float32)


@cache
def _powers() -> np.ndarray:
    """Squares of the grid rows above the rows themselves, one column a row: float32 [16, 256]."""
    return np.ascontiguousarray(np.vstack([grid().T ** 2, grid().T]))


def _odd(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Indices of the vectors with an odd number of negative weights."""
    return np.nonzero((x < 0).sum(axis=2) & 1)


def _problem(x: np.ndarray, w: np.ndarray, weighted: np.ndarray) -> _Problem:
    odd, signed = _odd(x), weighted.copy()
    signed[*odd, weighted[odd].argmin(axis=1)] *= -1
    factors = np.concatenate([w, -2 * signed], axis=2)
    return _Problem(w, signed, factors, np.empty((*w.shape[:2], len(grid())), np.float32))


def _signs(x: np.ndarray, weighted: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Signs [B, 8, 4, 8]; where their number must be made even, the one changes that costs least."""
    odd, negative = _odd(x), x < 0
    cheapest = (weighted[odd] * grid()[rows.reshape(x.shape[:2])[odd]]).argmin(axis=1)
    negative[*odd, cheapest] ^= True
    return negative.reshape(*rows.shape, LENGTH)


def _choose(problem: _Problem, step: np.ndarray, scales: np.ndarray) -> _Choice:
    """The best grid row of every vector for its group's step [B, 8].

    The product is made a super-block at a time: so small a one runs on one thread, and its last bit does not depend on
    what else is in the batch.
    """
    np.multiply(problem.w, np.repeat(step, VECTORS, axis=1)[..., None], out=problem.factors[..., :LENGTH])
    rows = np.matmul(problem.factors, _powers(), out=problem.cost).argmin(axis=2)  # [B, 32]
    chosen = grid()[rows].reshape(*step.shape, VECTORS * LENGTH)
    p = np.einsum("bge,bge->bg", problem.signed.reshape(chosen.shape), chosen)
    q = np.einsum("bge,bge->bg", problem.w.reshape(chosen.shape), chosen * chosen)
    return _Choice(step, scales, rows.reshape(*step.shape, VECTORS).astype(np.uint8), p, q)


def _better(a: _Choice, b: _Choice) -> _Choice:
    """The choice of smaller error, group by group; `a` where they are equal."""
    choose_b = b.error < a.error
    rows = np.where(choose_b[..., None], b.rows, a.rows)
    step, scales, p, q = (np.where(choose_b, getattr(b, f), getattr(a, f)) for f in ("step", "scales", "p", "q"))
    return _Choice(step, scales, rows, p, q)


def _best(choices: Iterable[_Choice]) -> _Choice:
    return reduce(_better, choices)


def _free_steps(problem: _Problem, x: np.ndarray) -> _Choice:
    """The best choice when every group may have any step: trial steps, each then moved to its optimum p/q."""
    energy, total = (a.reshape(len(x), GROUPS, -1).sum(axis=2) for a in (problem.w * x * x, problem.w))
    middle = np.sqrt(energy / total / np.mean(grid() ** 2))  # [B, 8]
    unused = np.zeros_like(middle)
    return _best(_at_optimum(_choose(problem, middle * np.float32(f), unused)) for f in TRIAL_STEPS)


def _at_optimum(choice: _Choice) -> _Choice:
    return _Choice(np.maximum(choice.p, 0) / choice.q, choice.scales, choice.rows, choice.p, choice.q)


def _refine(problem: _Problem, free: _Choice, peak: np.ndarray) -> tuple[np.ndarray, _Choice]:
    """Unit [B] and choice with steps made of it. Each round's best block is kept; ties keep the earlier round."""
    unit = _best_unit(free)
    last = free
    kept: list[tuple[np.ndarray, _Choice]] = []
    for _ in range(ROUNDS):
        unit = round_units(unit, peak)
        last = _best_scales(problem, unit, last.p / last.q)
        kept.append((unit, last))
        unit = _solve_unit(last)
    return reduce(_better_blocks, kept)


def _better_blocks(a: tuple[np.ndarray, _Choice], b: tuple[np.ndarray, _Choice]) -> tuple[np.ndarray, _Choice]:
    choose_b = b[1].error.sum(axis=1) < a[1].error.sum(axis=1)  # [B]

    def pick(from_a: np.ndarray, from_b: np.ndarray) -> np.ndarray:
        return np.where(choose_b.reshape(-1, *[1] * (from_a.ndim - 1)), from_b, from_a)

    merged = {name: pick(value, getattr(b[1], name)) for name, value in vars(a[1]).items()}
    return pick(a[0], b[0]), _Choice(**merged)


def _scales(steps: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The integers [B, 8] whose steps unit·(0.5 + integer)/4 are nearest."""
    inverse = np.divide(4, unit, out=np.zeros_like(unit), where=unit > 0)
    return np.clip(np.rint(steps * inverse[:, None] - np.float32(0.5)), 0, TOP_SCALE)


def _steps(scales: np.ndarray, unit: np.ndarray) -> np.ndarray:
    return (scales + np.float32(0.5)) * (unit[:, None] / 4)


def _best_unit(free: _Choice) -> np.ndarray:
    """The unit [B] whose steps come nearest to the free ones, by sum q·(difference)^2."""
    highest = free.step.max(axis=1)
    best = highest * np.float32(4 / (TOP_SCALE + 0.5))
    least = np.full(best.shape, np.inf, np.float32)
    for steps in np.linspace(10, TOP_SCALE + 2, UNIT_CANDIDATES, dtype=np.float32):
        unit = 4 * highest / steps
        error = (free.q * (_steps(_scales(free.step, unit), unit) - free.step) ** 2).sum(axis=1)
        best = np.where(error < least, unit, best)
        least = np.minimum(error, least)
    return best


def _best_scales(problem: _Problem, unit: np.ndarray, wanted: np.ndarray) -> _Choice:
    """Each group's best integer among the nearest to the wanted step and its two neighbours, by the true error."""
    nearest = _scales(wanted, unit)
    around = (np.clip(nearest + i, 0, TOP_SCALE) for i in (0, -1, 1))
    return _best(_choose(problem, _steps(scales, unit), scales) for scales in around)


def _solve_unit(choice: _Choice) -> np.ndarray:
    """Weighted least squares for the unit [B] with scales and grid rows fixed."""
    share = (choice.scales + np.float32(0.5)) / 4  # the step over the unit
    return np.maximum((share * choice.p).sum(axis=1), 0) / (share * share * choice.q).sum(axis=1)
