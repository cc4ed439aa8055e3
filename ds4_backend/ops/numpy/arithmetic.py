"""Small formulas that every part of the numpy ops needs."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Complex = NDArray[np.complex64]


def rms_scale(x: Float, epsilon: float) -> Float | float:
    """1 / sqrt(mean(x^2) + epsilon) over the last axis, kept as an axis of 1 (a plain float for a single row)."""
    if x.size == x.shape[-1]:  # decode: plain floats cost a fifth of five numpy calls
        row = x.reshape(-1)
        return 1 / math.sqrt(float(row.dot(row)) / len(row) + epsilon)
    mean = np.vecdot(x, x) / np.float32(x.shape[-1])
    return np.reciprocal(np.sqrt(mean + np.float32(epsilon)))[..., None]


def rms_norm(x: Float, weight: Float, epsilon: float) -> Float:
    """Root-mean-square norm of [..., D] with a weight [D]."""
    out = x * rms_scale(x, epsilon)
    out *= weight
    return out


def sigmoid(x: Float) -> Float:
    """1 / (1 + e^-x); below -88, where e^-x overflows float32, it is 6e-39."""
    out = np.negative(x)
    np.minimum(out, 88, out=out)
    np.exp(out, out=out)
    out += 1
    return np.reciprocal(out, out=out)


def rotation(radians: Float) -> Complex:
    """Unit complex numbers [..., R/2]: multiplying a channel pair by one rotates it."""
    out = np.empty(radians.shape, np.complex64)
    out.real = np.cos(radians)
    out.imag = np.sin(radians)
    return out


def rotate(x: Float, turn: Complex) -> None:
    """Rotate the last 2 * turn.shape[-1] channels of x [..., d] in place; pairs are adjacent channels.

    `turn` broadcasts against x's leading axes. x must be contiguous in its last axis.
    """
    pairs = x[..., x.shape[-1] - 2 * turn.shape[-1] :].view(np.complex64)
    pairs *= turn


def linear(x: Float, weight: Float) -> Float:
    """x [T, D] through weight [out, D]; one row goes by matrix-vector product, which BLAS does much faster."""
    if len(x) == 1:
        return weight.dot(x[0])[None]
    return x @ weight.T
