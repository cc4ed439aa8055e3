"""Block formats decoded by stock MLX operations: raw bytes on the device to float32. It knows no files and no matrices.

Results equal gguf-py's decoders bit for bit where the device keeps float32 subnormals; the order of the products is
theirs. Multi-byte fields are put together from single bytes, so no read is ever misaligned. Layouts are ggml's
(ggml-common.h).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import mlx.core as mx
import numpy as np


def decode(raw: mx.array, format_name: str) -> mx.array:
    """Rows of blocks, uint8 [..., row_bytes], as float32 [..., n]. Raises KeyError for a format not in `DECODERS`."""
    decoder = DECODERS[format_name]
    blocks = raw.reshape(-1, decoder.block_bytes)
    return decoder.decode(blocks).reshape(*raw.shape[:-1], -1)


@dataclass(frozen=True, slots=True)
class Decoder:
    """How to decode one format: blocks uint8 [B, block_bytes] -> float32 [B, values]."""

    block_bytes: int
    decode: Callable[[mx.array], mx.array]


def _f32(b: mx.array) -> mx.array:
    return b.view(mx.float32)


def _f16(b: mx.array) -> mx.array:
    return b.view(mx.float16).astype(mx.float32)


def _bf16(b: mx.array) -> mx.array:
    return (b.view(mx.uint16).astype(mx.uint32) << 16).view(mx.float32)


def _q8_0(b: mx.array) -> mx.array:
    """f16 d, 32 int8: value = d q."""
    return b[:, 2:].view(mx.int8).astype(mx.float32) * _half(b, 0)


def _q2_k(b: mx.array) -> mx.array:
    """16 bytes of 4-bit scale and minimum, 64 bytes of 2-bit codes, f16 d, f16 dmin: value = d s code - dmin m."""
    scale = _half(b, 80) * (b[:, :16] & 15).astype(mx.float32)  # [B, 16]
    minimum = _half(b, 82) * (b[:, :16] >> 4).astype(mx.float32)
    shifts = mx.array([0, 2, 4, 6], mx.uint8)[:, None]
    codes = (b[:, 16:80].reshape(-1, 2, 1, 32) >> shifts) & 3  # [B, half, shift, 32]
    return scale[..., None] * codes.reshape(-1, 16, 16).astype(mx.float32) - minimum[..., None]


def _q4_k(b: mx.array) -> mx.array:
    """f16 d, f16 dmin, 12 bytes of 6-bit scales and minima, 128 bytes of 4-bit codes: value = d s code - dmin m."""
    low, mid, high = b[:, 4:8], b[:, 8:12], b[:, 12:16]  # [B, 4] each
    scales = mx.concatenate([low & 63, (high & 15) | ((low >> 2) & 48)], axis=1)  # [B, 8]
    minima = mx.concatenate([mid & 63, (high >> 4) | ((mid >> 2) & 48)], axis=1)
    scale = _half(b, 0) * scales.astype(mx.float32)
    minimum = _half(b, 2) * minima.astype(mx.float32)
    shifts = mx.array([0, 4], mx.uint8)[:, None]
    codes = (b[:, 16:].reshape(-1, 4, 1, 32) >> shifts) & 15  # [B, 64-value group, shift, 32]
    return scale[..., None] * codes.reshape(-1, 8, 32).astype(mx.float32) - minimum[..., None]


def _iq2_xxs(b: mx.array) -> mx.array:
    """f16 d, then per 32 values: 4 grid indices and a word of 4 sign indices (7 bits each) and a 4-bit scale."""
    groups = b[:, 2:].reshape(-1, 8, 8)  # [B, 8, bytes]
    word = _word(groups[..., 4:])  # [B, 8]
    scale = _half(b, 0) * (0.5 + (word >> 28).astype(mx.float32)) * 0.25
    signs = (word[..., None] >> mx.array([0, 7, 14, 21], mx.uint32)) & 127  # [B, 8, 4]
    grid_table, sign_table = _iq2_xxs_tables()
    return scale[..., None, None] * grid_table[groups[..., :4]] * sign_table[signs]  # [B, 8, 4, 8]


def _mxfp4(b: mx.array) -> mx.array:
    """A power-of-two exponent, 16 bytes of E2M1 codes: low nibbles are values 0 to 15, high nibbles 16 to 31."""
    exponent = b[:, :1].astype(mx.uint32)
    # 2^(e - 128), because the code table holds doubled values; below e = 2 that is a subnormal
    bits = mx.where(exponent < 2, mx.array(0x00200000, mx.uint32) << exponent, (exponent - 1) << 23)
    codes = mx.concatenate([b[:, 1:] & 15, b[:, 1:] >> 4], axis=1)
    return bits.view(mx.float32) * mx.array(_E2M1_DOUBLED, mx.float32)[codes]


_E2M1_DOUBLED = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]


def _half(b: mx.array, at: int) -> mx.array:
    """The f16 at byte `at` of every block, as float32 [B, 1]."""
    bits = b[:, at].astype(mx.uint16) | (b[:, at + 1].astype(mx.uint16) << 8)
    return bits.view(mx.float16).astype(mx.float32)[:, None]


def _word(b: mx.array) -> mx.array:
    """Four bytes of the last axis as one little-endian uint32."""
    wide = b.astype(mx.uint32)
    return wide[..., 0] | (wide[..., 1] << 8) | (wide[..., 2] << 16) | (wide[..., 3] << 24)


@cache
def _iq2_xxs_tables() -> tuple[mx.array, mx.array]:
    """gguf-py's grid [256, 8] of magnitudes, and its sign patterns [128, 8] as +1 and -1."""
    from gguf.quants import IQ2_XXS

    IQ2_XXS.init_grid()
    assert IQ2_XXS.grid is not None
    patterns = np.frombuffer(IQ2_XXS.ksigns, np.uint8)
    negative = np.unpackbits(patterns[:, None], axis=1, bitorder="little").astype(np.float32)
    return mx.array(IQ2_XXS.grid.reshape(256, 8).astype(np.float32)), mx.array(1 - 2 * negative)


DECODERS = {
    "F32": Decoder(4, _f32),
    "F16": Decoder(2, _f16),
    "BF16": Decoder(2, _bf16),
    "Q8_0": Decoder(34, _q8_0),
    "Q2_K": Decoder(84, _q2_k),
    "Q4_K": Decoder(144, _q4_k),
    "IQ2_XXS": Decoder(66, _iq2_xxs),
    "MXFP4": Decoder(17, _mxfp4),
}
"""By the format's name."""
