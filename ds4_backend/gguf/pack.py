"""The bytes of encoded Q2_K, Q4_K and IQ2_XXS super-blocks.

Layouts as gguf-py's decoders read them, little-endian. This file does not know how units, scales and codes were found.
"""

from __future__ import annotations

import numpy as np

from ds4_backend.gguf.encode_iq2 import IQ2Blocks
from ds4_backend.gguf.k_blocks import KBlocks


def pack_q2_k(blocks: KBlocks) -> np.ndarray:
    """uint8 [B, 84]: 16 bytes scale | offset << 4, 64 bytes of codes, unit, offset unit.

    A code byte holds weights 32 apart, within each half of the super-block.
    """
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    quarters = blocks.codes.reshape(-1, 2, 4, 32) << shifts
    codes = np.bitwise_or.reduce(quarters, axis=2).reshape(-1, 64)
    return np.hstack([blocks.scales | (blocks.offsets << 4), codes, _half(blocks.unit), _half(blocks.offset_unit)])


def pack_q4_k(blocks: KBlocks) -> np.ndarray:
    """uint8 [B, 144]: unit, offset unit, 12 bytes of 6-bit scales and offsets, 128 bytes of codes.

    The first eight of the 12 bytes hold the scales and offsets of groups 0-3 and, above, the top two bits of those of
    groups 4-7; the last four hold the low four bits of groups 4-7, scale | offset << 4. A code byte holds weights 32
    apart.
    """
    low, high = blocks.scales[:, :4], blocks.scales[:, 4:]
    low_offset, high_offset = blocks.offsets[:, :4], blocks.offsets[:, 4:]
    both = (high & 15) | ((high_offset & 15) << 4)
    pairs = blocks.codes.reshape(-1, 4, 2, 32)
    codes = (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(-1, 128)
    sixes = [low | ((high >> 4) << 6), low_offset | ((high_offset >> 4) << 6), both]
    return np.hstack([_half(blocks.unit), _half(blocks.offset_unit), *sixes, codes])


def pack_iq2_xxs(blocks: IQ2Blocks) -> np.ndarray:
    """uint8 [B, 66]: unit, then for each group four grid rows and a u32: four times 7 signs, scale << 28.

    The eighth sign of a vector is not stored: it makes the number of negative ones even.
    """
    count = len(blocks.unit)
    signs = np.packbits(blocks.negative, axis=-1, bitorder="little")[..., 0].astype(np.uint32) & 127  # [B, 8, 4]
    shifted = signs << np.array([0, 7, 14, 21], np.uint32)
    words = np.bitwise_or.reduce(shifted, axis=2) | (blocks.scales.astype(np.uint32) << 28)  # [B, 8]
    tails = words.astype("<u4")[..., None].view(np.uint8)  # [B, 8, 4]
    return np.hstack([_half(blocks.unit), np.concatenate([blocks.rows, tails], axis=2).reshape(count, 64)])


def _half(unit: np.ndarray) -> np.ndarray:
    return unit.astype("<f2")[:, None].view(np.uint8)  # [B, 2]
