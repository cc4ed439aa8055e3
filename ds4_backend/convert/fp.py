"""Decoding the number formats of DeepSeek's own checkpoint: FP8 E4M3 and FP4 E2M1, both with E8M0 scales.

E4M3: bias 7, subnormal step 2^-9, largest 448; a scale per 128 x 128 tile. E2M1: 0, .5, 1, 1.5, 2, 3, 4, 6 with a
sign bit, two to a byte (low nibble first); a scale per 32 inputs. E8M0: the power of two 2^(e - 127). All functions
take and give numpy arrays and know nothing of files.
"""

from __future__ import annotations

import numpy as np

TILE = 128
"""Rows and columns of an FP8 scale tile."""
GROUP = 32
"""Inputs that share an FP4 scale; also the block of GGUF's MXFP4."""


def _e4m3_table() -> np.ndarray:
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    size = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10.0))
    size[code & 127 == 127] = np.nan
    return np.where(code < 128, size, -size).astype(np.float32)


E4M3 = _e4m3_table()  # [256]
E8M0 = np.append(np.exp2(np.arange(255.0) - 127), np.nan).astype(np.float32)  # [256], code 255 is NaN
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
E2M1 = np.concatenate([E2M1, -E2M1])  # [16]


def decode_bf16(bits: np.ndarray) -> np.ndarray:
    """uint16 -> float32: BF16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def decode_fp8(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """E4M3 codes uint8 [r, n] with factors float32 [ceil(r/128), ceil(n/128)] -> float32 [r, n]."""
    rows, columns = codes.shape
    factors = np.repeat(scales, TILE, axis=1)[:, :columns]  # [tiles, n]
    return E4M3[codes] * np.repeat(factors, TILE, axis=0)[:rows]


def decode_fp4(packed: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Packed E2M1 uint8 [r, n/2] with E8M0 codes uint8 [r, n/32] -> float32 [r, n]."""
    values = E2M1[_nibbles(packed)].reshape(len(packed), -1, GROUP)
    return (values * E8M0[scales][:, :, None]).reshape(len(packed), -1)


def fp4_to_mxfp4(packed: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The same numbers as GGUF MXFP4 rows, uint8 [r, n/32 * 17]: nothing is rounded.

    A block is the scale code, then 16 bytes whose low nibbles are elements 0-15 and high nibbles elements 16-31.
    """
    codes = _nibbles(packed).reshape(len(packed), -1, 2, GROUP // 2)  # [r, blocks, half, 16]
    bytes_ = codes[:, :, 0] | codes[:, :, 1] << 4
    return np.concatenate([scales[:, :, None], bytes_], axis=2).reshape(len(packed), -1)


def _nibbles(packed: np.ndarray) -> np.ndarray:
    """uint8 [r, n/2] -> uint8 [r, n], low nibble first."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
