"""Rotary angles: frequency tables per layer kind. Host numpy, shared by every device; it knows no tensors to rotate.

Adjacent channel pairs rotate by position times frequency. Window-only layers use `rope.freq_base`, no scaling;
compressed layers use `attention.compress_rope_freq_base` with YaRN's interpolation and *no* magnitude factor, for
queries, window rows, compressed rows and indexer rows alike.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import SLIDING, Geometry


def frequencies(g: Geometry, ratio: int) -> NDArray[np.float32]:
    """Radians per position, float32 [R/2], for the layers of this compression ratio."""
    base = g.rope_freq_base if ratio == SLIDING else g.attention_compress_rope_freq_base
    rotary = g.rope_dimension_count
    plain = 1.0 / base ** (np.arange(0, rotary, 2, dtype=np.float64) / rotary)
    if ratio == SLIDING or g.rope_scaling_type == "none":
        return plain.astype(np.float32)
    ramp = _yarn_ramp(g, base)
    return (plain / g.rope_scaling_factor * ramp + plain * (1 - ramp)).astype(np.float32)


def _yarn_ramp(g: Geometry, base: float) -> NDArray[np.float64]:
    """0 where a frequency is kept, 1 where it is divided by the scaling factor (YaRN; bounds rounded outward)."""
    rotary, length = g.rope_dimension_count, g.rope_scaling_original_context_length

    def channel_of(turns: float) -> float:
        return rotary * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(channel_of(g.rope_scaling_yarn_beta_fast)), 0)
    high = min(math.ceil(channel_of(g.rope_scaling_yarn_beta_slow)), rotary - 1)
    channels = np.arange(rotary // 2, dtype=np.float64)
    return np.clip((channels - low) / max(high - low, 1e-3), 0, 1)


def angles(positions: NDArray[np.int32], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Radians [len(positions), R/2] as a float32 product, the precision that the checkpoint was trained with."""
    return positions.astype(np.float32)[:, None] * table
