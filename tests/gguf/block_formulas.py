"""Block formats decoded one value at a time from their published formulas: slow, plain, and nothing of gguf-py's but
the IQ2 grid. `tests/gguf/test_decode.py` holds the real decoder against it."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import numpy as np

F = np.float32


def _half(block: bytes, at: int) -> np.float32:
    return F(struct.unpack_from("<e", block, at)[0])


def q8_0(block: bytes) -> list[np.float32]:
    """f16 d, int8 q[32]; x = d q."""
    return [_half(block, 0) * F(q) for q in struct.unpack_from("<32b", block, 2)]


def q2_k(block: bytes) -> list[np.float32]:
    """u8 scales[16], u8 codes[64], f16 d, f16 dmin; x = d s code - dmin m, with s and m the nibbles of a scale."""
    scales, codes = block[:16], block[16:80]
    d, dmin = _half(block, 80), _half(block, 82)
    out = []
    for e in range(256):
        half, r = divmod(e, 128)
        code = (codes[32 * half + r % 32] >> (2 * (r // 32))) & 3
        s = scales[e // 16]
        out.append(d * F(s & 15) * F(code) - dmin * F(s >> 4))
    return out


def q4_k(block: bytes) -> list[np.float32]:
    """f16 d, f16 dmin, 12 bytes of eight 6-bit scales and eight 6-bit offsets, u8 codes[128]."""
    d, dmin = _half(block, 0), _half(block, 2)
    sc, codes = block[4:16], block[16:]
    out = []
    for e in range(256):
        j = e // 32
        if j < 4:
            scale, offset = sc[j] & 63, sc[j + 4] & 63
        else:
            scale = (sc[j + 4] & 15) | ((sc[j - 4] >> 6) << 4)
            offset = (sc[j + 4] >> 4) | ((sc[j] >> 6) << 4)
        code = (codes[32 * (e // 64) + e % 32] >> (4 * (j % 2))) & 15
        out.append(d * F(scale) * F(code) - dmin * F(offset))
    return out


def iq2_xxs(block: bytes) -> list[np.float32]:
    """f16 d, then 8 groups: four grid indices, and a u32 of four 7-bit sign indices under a 4-bit scale."""
    grid = _grid()
    d = _half(block, 0)
    out = []
    for g in range(8):
        indices = block[2 + 8 * g : 6 + 8 * g]
        (word,) = struct.unpack_from("<I", block, 6 + 8 * g)
        unit = d * F(0.5 + (word >> 28)) * F(0.25)
        for k in range(4):
            signs = _even_parity((word >> (7 * k)) & 127)
            out += [unit * grid[indices[k]][j] * F(-1 if signs >> j & 1 else 1) for j in range(8)]
    return out


def mxfp4(block: bytes) -> list[np.float32]:
    """u8 e, 16 bytes: low nibbles are values 0 to 15, high nibbles 16 to 31; x = table[code] 2^(e - 127)."""
    table = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    nibbles = [b & 15 for b in block[1:]] + [b >> 4 for b in block[1:]]
    with np.errstate(over="ignore"):
        return [F(math.ldexp(table[n & 7], block[0] - 127) * (-1 if n & 8 else 1)) for n in nibbles]


def _even_parity(seven_bits: int) -> int:
    return seven_bits | (seven_bits.bit_count() & 1) << 7


def _grid() -> np.ndarray:
    from gguf.quants import IQ2_XXS

    IQ2_XXS.init_grid()
    assert IQ2_XXS.grid is not None
    return IQ2_XXS.grid.reshape(256, 8).astype(np.float32)


FORMULAS: dict[str, Callable[[bytes], list[np.float32]]] = {
    "Q8_0": q8_0,
    "Q2_K": q2_k,
    "Q4_K": q4_k,
    "IQ2_XXS": iq2_xxs,
    "MXFP4": mxfp4,
}
HALVES_AT = {"Q8_0": (0,), "Q2_K": (80, 82), "Q4_K": (0, 2), "IQ2_XXS": (0,), "MXFP4": ()}
"""Where a block holds its f16 scales: tests put finite ones there."""
