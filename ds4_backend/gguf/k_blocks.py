"""Super-blocks of the K formats: how they are cut, what is to be encoded, and what an answer costs.

A super-block of 256 weights is cut into groups. In a group x ~ unit·scale·code - offset_unit·offset: the two units
are f16 values of the super-block (`d` and `dmin` in the files' own terms), scale and offset are small integers of the
group, and code is a small integer of each weight. gguf-py's decoders are the definition.

Arrays of a problem are [length, groups, blocks], so that sums over a group or a super-block run along memory. This file
does not know how good scales are found (`encode_k`) or what bytes they become (`pack`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KShape:
    """How a K format cuts 256 weights, and how large its integers get.

    `shrinks` are the factors by which a group's lowest and highest weight are pulled in to get the starting ranges:
    with 4 codes much is gained by clipping the tails, with 16 little.
    """

    groups: int
    length: int
    top_code: int
    top_scale: int
    shrinks: tuple[float, ...]


Q2_K = KShape(groups=16, length=16, top_code=3, top_scale=15, shrinks=(1.0, 0.85, 0.7, 0.55))
Q4_K = KShape(groups=8, length=32, top_code=15, top_scale=63, shrinks=(1.02, 0.96, 0.9, 0.8))


@dataclass(frozen=True)
class KBlocks:
    """Encoded super-blocks, not yet packed."""

    unit: np.ndarray  # [B] float16
    offset_unit: np.ndarray  # [B] float16
    scales: np.ndarray  # [B, G] uint8, 0..top_scale
    offsets: np.ndarray  # [B, G] uint8, 0..top_scale
    codes: np.ndarray  # [B, 256] uint8, 0..top_code


@dataclass(frozen=True)
class Problem:
    """What is to be encoded, and the sums that every step needs."""

    shape: KShape
    x: np.ndarray  # [L, G, B]
    w: np.ndarray  # [L, G, B]
    peak: np.ndarray  # [B] the weights themselves are x·peak
    sum_w: np.ndarray  # [G, B]
    sum_wx: np.ndarray  # [G, B]


def make_problem(x: np.ndarray, w: np.ndarray, peak: np.ndarray, shape: KShape) -> Problem:
    cut = (len(x), shape.groups, shape.length)
    x, w = (np.ascontiguousarray(a.reshape(cut).transpose(2, 1, 0)) for a in (x, w))
    return Problem(shape, x, w, peak, sum_w=w.sum(axis=0), sum_wx=dot(w, x))


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("lgb,lgb->gb", a, b)


def over(a: np.ndarray | np.float32, b: np.ndarray) -> np.ndarray:
    """a / b where b > 0, else 0."""
    return np.divide(a, b, out=np.zeros_like(b), where=b > 0)


def nearest_codes(problem: Problem, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The nearest codes [L, G, B] for a real-valued scale and offset [G, B]."""
    q = problem.x + offset
    q *= over(np.float32(1), scale)
    np.rint(q, out=q)
    return np.clip(q, 0, problem.shape.top_code, out=q)


def group_errors(problem: Problem, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """sum w·(x - decoded)^2 of every group [G, B] with the nearest codes."""
    y = nearest_codes(problem, scale, offset)
    y *= scale
    y -= offset
    y -= problem.x
    y *= y
    return dot(y, problem.w)
