"""Random blocks of every stored format, with a chosen standard deviation. It knows no tensors' names and no files.

A pool is a few megabytes of blocks: random codes, and one scale for all of them, so that a large tensor can be filled
by copying slices of it. Decoded values have mean 0 (Q8_0: half a step below it).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ds4_backend.gguf.decode import dequantize
from ds4_backend.gguf.formats import FORMATS

POOL_BYTES = 8 << 20
SAMPLE_BLOCKS = 2048
"""Blocks decoded to find a format's own deviation; it is then right to about 1 %."""


def random_pool(format_name: str, deviation: float, rng: np.random.Generator, nbytes: int = POOL_BYTES) -> np.ndarray:
    """Blocks of a format, uint8 [blocks, block_bytes], that decode to values of this standard deviation.

    As many blocks as `nbytes` hold. Raises KeyError for a format that cannot be filled at random.
    """
    count = nbytes // FORMATS[format_name].block_bytes
    if format_name in _PLAIN:
        values = rng.standard_normal(count, np.float32) * np.float32(deviation)
        return values.astype(_PLAIN[format_name]).view(np.uint8).reshape(count, -1)
    blocks = rng.integers(0, 256, (count, FORMATS[format_name].block_bytes), np.uint8)
    if format_name == "MXFP4":
        _set_exponents(blocks, deviation, rng)
        return blocks
    set_scale = _SCALES[format_name]
    set_scale(blocks, 1.0)
    own = float(dequantize(blocks[:SAMPLE_BLOCKS], FORMATS[format_name]).std())
    set_scale(blocks, deviation / own)
    return blocks


def table_pool(experts: int, used: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of a hash router's table, uint8 [rows, 4 * used]: each names `used` different experts (int32)."""
    chosen = np.argsort(rng.random((4096, experts)), axis=1)[:, :used].astype("<i4")
    return np.ascontiguousarray(chosen).view(np.uint8)


def _half(blocks: np.ndarray, at: int, value: float) -> None:
    """Put one f16 at byte `at` of every block."""
    blocks[:, at : at + 2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)


def _q8_0(blocks: np.ndarray, d: float) -> None:
    _half(blocks, 0, d)


def _q2_k(blocks: np.ndarray, d: float) -> None:
    # x = d·s·c − dmin·m with s, m uniform on 0..15 and c on 0..3: dmin = 1.5·d makes the mean 0
    _half(blocks, 80, d)
    _half(blocks, 82, 1.5 * d)


def _q4_k(blocks: np.ndarray, d: float) -> None:
    # S, M uniform on 0..63 and c on 0..15: dmin = 7.5·d makes the mean 0
    _half(blocks, 0, d)
    _half(blocks, 2, 7.5 * d)


def _iq2_xxs(blocks: np.ndarray, d: float) -> None:
    _half(blocks, 0, d)


_PLAIN = {"F32": "<f4", "F16": "<f2"}
_SCALES: dict[str, Callable[[np.ndarray, float], None]] = {
    "Q8_0": _q8_0,
    "Q2_K": _q2_k,
    "Q4_K": _q4_k,
    "IQ2_XXS": _iq2_xxs,
}
_E2M1_SQUARE = 68.5 / 8
"""Mean square of E2M1's magnitudes 0, 0.5, 1, 1.5, 2, 3, 4, 6."""


def _set_exponents(blocks: np.ndarray, deviation: float, rng: np.random.Generator) -> None:
    """Mix two neighbouring powers of two so that the mean square comes out."""
    wanted = deviation**2 / _E2M1_SQUARE
    low = int(np.floor(np.log2(wanted) / 2))
    share = (wanted / 4.0**low - 1) / 3  # of blocks with the larger exponent
    blocks[:, 0] = 127 + low + (rng.random(len(blocks)) < share)
