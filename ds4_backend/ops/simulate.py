"""The cache simulation that the checkpoint was trained with: rows rounded to 8 bits, indexer rows to 4. Host numpy.

Attention rows (window and compressed): the non-rotary channels in blocks of 64, power-of-two scale, E4M3 values;
then the whole row is rounded to float16, which changes the rotary channels only. Indexer queries and rows: Hadamard
transform, then blocks of 32, power-of-two scale, E2M1 values. Rounding is to nearest, ties to the even code.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from ds4_backend.errors import FileError
from ds4_backend.gguf.geometry import CSA, Geometry

ROW_BLOCK, INDEXER_BLOCK = 64, 32
E4M3_MAX, E2M1_MAX = 448.0, 6.0

Float = NDArray[np.float32]


def check_widths(g: Geometry) -> None:
    """Raise FileError where the simulation cannot be laid over this network's rows."""
    plain, indexer = g.attention_key_length - g.rope_dimension_count, g.attention_indexer_key_length
    if plain % ROW_BLOCK:
        raise FileError(
            f"the cache simulation rounds blocks of {ROW_BLOCK} channels, but rows have {plain} non-rotary channels; "
            "switch it off (GGUF key ds4.cache_simulation, or --no-cache-simulation)"
        )
    if CSA in g.attention_compress_ratios and (indexer % INDEXER_BLOCK or indexer & (indexer - 1)):
        raise FileError(
            f"the cache simulation needs an indexer width that is a power of two from 32 up, not {indexer}; "
            "switch it off (GGUF key ds4.cache_simulation, or --no-cache-simulation)"
        )


def round_rows(rows: Float, rotary: int) -> Float:
    """Attention rows [..., d] as the cache holds them; the last `rotary` channels only lose float16 precision."""
    out = rows.astype(np.float32)
    plain = out[..., : out.shape[-1] - rotary]
    blocks = plain.reshape(*plain.shape[:-1], -1, ROW_BLOCK)
    largest = np.maximum(np.abs(blocks).max(-1, keepdims=True), np.float32(1e-4))
    scale = power_of_two_scale(largest, E4M3_MAX)
    out[..., : out.shape[-1] - rotary] = (_e4m3(blocks / scale) * scale).reshape(plain.shape)
    return out.astype(np.float16).astype(np.float32)


def round_indexer(rows: Float) -> Float:
    """Indexer queries or rows [..., w], Hadamard-transformed and rounded. The transform leaves dot products alone."""
    width = rows.shape[-1]
    # float64: the transform's rounding error must not push a value over a rounding boundary of E2M1
    mixed = (rows.astype(np.float64) @ _hadamard(width)).reshape(*rows.shape[:-1], -1, INDEXER_BLOCK)
    largest = np.maximum(np.abs(mixed).max(-1, keepdims=True), 6 * 2.0**-126)
    scale = power_of_two_scale(largest, E2M1_MAX)
    return (_e2m1(mixed / scale) * scale).astype(np.float32).reshape(rows.shape)


def power_of_two_scale(largest: NDArray[np.floating], top: float) -> NDArray[np.floating]:
    """2^ceil(log2(largest / top)), exact at powers of two: the scale of a block with this largest magnitude."""
    mantissa, exponent = np.frexp(largest / top)  # mantissa in [0.5, 1)
    return np.ldexp(np.ones_like(largest), exponent - (mantissa == 0.5))


def _e4m3(values: Float) -> Float:
    """Round to 4 exponent and 3 mantissa bits; saturates at 448."""
    size = np.minimum(np.abs(values), E4M3_MAX)
    exponent = np.maximum(np.frexp(size)[1], -5)  # below 2^-6 the step stays 2^-9
    step = np.ldexp(np.float32(1), exponent - 4)
    return np.copysign(np.minimum(np.rint(size / step) * step, E4M3_MAX), values)


def _e2m1(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to 0, .5, 1, 1.5, 2, 3, 4, 6; saturates at 6."""
    size = np.minimum(np.abs(values), E2M1_MAX)
    step = np.where(size < 2, 0.5, np.where(size < 4, 1.0, 2.0))
    return np.copysign(np.rint(size / step) * step, values)


@functools.cache
def _hadamard(width: int) -> NDArray[np.float64]:
    """Sylvester's matrix, scaled to be orthogonal."""
    matrix = np.ones((1, 1))
    while len(matrix) < width:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix * width**-0.5
