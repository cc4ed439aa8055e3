"""The cache simulation of `ops.simulate` on the device; see there for what is rounded and why.

Scales are powers of two made from the bits of a float, so that no division or logarithm of the device takes part.
"""

from __future__ import annotations

import mlx.core as mx

from ds4_backend.ops.simulate import E2M1_MAX, E4M3_MAX, INDEXER_BLOCK, ROW_BLOCK

_SMALLEST_ROW = 1e-4
_SMALLEST_INDEXER = 6 * 2.0**-126


def round_rows(rows: mx.array, rotary: int) -> mx.array:
    """Attention rows [..., d] as the cache holds them: E4M3 blocks of 64, then float16; rotary channels float16 only.

    Equal to `simulate.round_rows` bit for bit.
    """
    plain = rows.shape[-1] - rotary
    blocks = rows[..., :plain].reshape(*rows.shape[:-1], -1, ROW_BLOCK)
    exponent = _scale_exponent(blocks, _SMALLEST_ROW, E4M3_MAX)
    rounded = (_e4m3(blocks * _power(-exponent)) * _power(exponent)).reshape(*rows.shape[:-1], plain)
    return mx.concatenate([rounded, rows[..., plain:]], axis=-1).astype(mx.float16).astype(mx.float32)


def round_indexer(rows: mx.array) -> mx.array:
    """Indexer queries or rows [..., w]: Hadamard transform, then E2M1 blocks of 32.

    The transform is float32 here and float64 in `simulate`: values within 1e-6 of a rounding boundary may go the other
    way.
    """
    blocks = mx.hadamard_transform(rows).reshape(*rows.shape[:-1], -1, INDEXER_BLOCK)
    exponent = _scale_exponent(blocks, _SMALLEST_INDEXER, E2M1_MAX)
    return (_e2m1(blocks * _power(-exponent)) * _power(exponent)).reshape(rows.shape)


def _scale_exponent(blocks: mx.array, smallest: float, top: float) -> mx.array:
    """ceil(log2(largest / top)) of each block, int32 [..., 1]; exact."""
    bits = mx.maximum(mx.abs(blocks).max(axis=-1, keepdims=True), smallest).view(mx.int32)
    limit = mx.array(top, mx.float32).view(mx.int32)
    # exponents apart by their difference, and one more where the mantissa is larger than top's
    return (bits >> 23) - (limit >> 23) + ((bits & _MANTISSA) > (limit & _MANTISSA)).astype(mx.int32)


_MANTISSA = (1 << 23) - 1


def _power(exponent: mx.array) -> mx.array:
    """2^exponent, exact for the normal float32 range (-126 to 127)."""
    return ((exponent + 127) << 23).view(mx.float32)


def _e4m3(values: mx.array) -> mx.array:
    """Round to 4 exponent and 3 mantissa bits, ties to even; saturates at 448."""
    size = mx.minimum(mx.abs(values), E4M3_MAX)
    floor_log2 = (size.view(mx.int32) >> 23) - 127
    step = mx.maximum(floor_log2, -6) - 3  # below 2^-6 the step stays 2^-9
    rounded = mx.minimum(mx.round(size * _power(-step)) * _power(step), E4M3_MAX)
    return mx.where(values < 0, -rounded, rounded)


def _e2m1(values: mx.array) -> mx.array:
    """Round to 0, .5, 1, 1.5, 2, 3, 4, 6, ties to the even code; saturates at 6."""
    size = mx.minimum(mx.abs(values), E2M1_MAX)
    step = (size >= 2).astype(mx.int32) + (size >= 4).astype(mx.int32) - 1
    rounded = mx.round(size * _power(-step)) * _power(step)
    return mx.where(values < 0, -rounded, rounded)
