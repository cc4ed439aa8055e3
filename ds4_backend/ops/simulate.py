"""The cache simulation that the checkpoint was trained with: rows rounded to 8 bits, indexer rows to 4. Host numpy.

Attention rows (window and compressed): the non-rotary channels in blocks of 64, power-of-two scale, E4M3 values;
then the whole row is rounded to float16, which changes the rotary channels only. Indexer queries and rows: Hadamard
transform, then blocks of 32, power-of-two scale, E2M1 values. Rounding is to nearest, ties to the even code.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds4_backend.errors import FileError
from ds4_backend.gguf.geometry import CSA, Geometry

ROW_BLOCK, INDEXER_BLOCK = 64, 32
E4M3_MAX, E2M1_MAX = 448.0, 6.0
E4M3_LEAST, E2M1_LEAST = 2.0**-6, 1.0
"""Below these the steps stay as they are there."""
E4M3_DIGITS, E2M1_DIGITS = 3, 1
"""Behind the first."""

Float = NDArray[np.float32]


class _Bits:
    """Where a float type keeps its digits. A power of two times `room[n]` leaves n digits room behind it."""

    def __init__(self, float_type: type, int_type: type, digits: int) -> None:
        self.int = int_type
        self.mantissa, everything = int_type((1 << digits) - 1), (1 << 8 * int_type(0).nbytes - 1) - 1
        self.exponent = int_type(everything ^ int(self.mantissa))
        self.room = {n: float_type(1.5 * 2.0 ** (digits - n)) for n in (E2M1_DIGITS, E4M3_DIGITS)}


FLOATS = {np.dtype(np.float32): _Bits(np.float32, np.int32, 23), np.dtype(np.float64): _Bits(np.float64, np.int64, 52)}


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
    out[..., : out.shape[-1] - rotary] = _rounded(blocks, scale * E4M3_LEAST, E4M3_DIGITS).reshape(plain.shape)
    return out.astype(np.float16).astype(np.float32)


def round_indexer(rows: Float) -> Float:
    """Indexer queries or rows [..., w], Hadamard-transformed and rounded. The transform leaves dot products alone."""
    width = rows.shape[-1]
    # float64: the transform's rounding error must not push a value over a rounding boundary of E2M1
    mixed = (rows.astype(np.float64) @ _hadamard(width)).reshape(*rows.shape[:-1], -1, INDEXER_BLOCK)
    largest = np.maximum(np.abs(mixed).max(-1, keepdims=True), 6 * 2.0**-126)
    scale = power_of_two_scale(largest, E2M1_MAX)
    return _rounded(mixed, scale * E2M1_LEAST, E2M1_DIGITS).astype(np.float32).reshape(rows.shape)


def power_of_two_scale(largest: NDArray[Any], top: float) -> NDArray[Any]:
    """2^ceil(log2(largest / top)), exact at powers of two: the scale of a block with this largest magnitude."""
    f = FLOATS[largest.dtype]
    bits: NDArray[Any] = (largest / top).view(f.int)
    return ((bits + f.mantissa) & f.exponent).view(largest.dtype)  # any digit carries into the exponent


def _rounded(values: NDArray[Any], least: Any, digits: int) -> NDArray[Any]:
    """To so many binary digits behind the first, as if no value were below `least`: a number is added that leaves just
    those digits room, and taken away again. The processor rounds to nearest, ties to even. Nothing has to be scaled, as
    scales are powers of two, nor to saturate: they are such that no block's largest value needs it."""
    f = FLOATS[values.dtype]
    power = np.maximum((values.view(f.int) & f.exponent).view(values.dtype), least)  # 2^floor(log2 |v|)
    power *= f.room[digits]
    return np.copysign((values + power) - power, values)


@functools.cache
def _hadamard(width: int) -> NDArray[np.float64]:
    """Sylvester's matrix, scaled to be orthogonal."""
    matrix = np.ones((1, 1))
    while len(matrix) < width:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix * width**-0.5
