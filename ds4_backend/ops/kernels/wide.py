"""Products on tensor cores for 1 to 8 tokens, where the language is CUDA: which matrices they take, and their kernels.

`text/fragments.msl` says how. Widths must be whole tiles of 256 values; others stay with the bodies of both languages.
It knows no layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.ops.kernels.bodies import geometry_cache
from ds4_backend.ops.kernels.kernel import Kernel
from ds4_backend.ops.kernels.projections import GRID

FORMATS = ("F16", "Q8_0", "Q2_K", "Q4_K", "IQ2_XXS", "MXFP4")
THREADS = 256
WARPS = THREADS // 32
TILE = 256
COLUMNS = 8
"""Tokens of a product."""
LIBRARIES = ("numbers", "mma", "blocks", "fragments")
_FILL = """for (uint i = thread_index_in_threadgroup; i < 384; i += THREADS) {
  uint4 four;
  four.x = four.y = four.z = four.w = iq2_picks[i];
  *(threadgroup uint4*)(tables + 8 * i) = four;
  *(threadgroup uint4*)(tables + 8 * i + 4) = four;
}
if (thread_index_in_threadgroup == 0) tables[3072] = 0x406b5948u;
"""
"""The last word is 64 more than each magnitude, by its number."""


def picks(magnitudes: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """What picks IQ2_XXS's values, a nibble each, uint32 [384]: the grid's rows [256, 8], then the 128 sets of signs.

    Magnitudes 8, 25 and 43 are the numbers 0 to 2, a sign is 4 more; the number of signs is even.
    """
    signs = np.arange(128)[:, None] >> np.arange(7) & 1
    signs = np.concatenate([signs, signs.sum(1, keepdims=True) & 1], axis=1) * 4
    nibbles = np.concatenate([magnitudes >> 4 & 3, signs]).astype(np.uint32)
    return (nibbles << np.arange(0, 32, 4, dtype=np.uint32)).sum(1, dtype=np.uint32)


def takes(format: str, columns: int) -> bool:
    """Whether a matrix of that format and width can be multiplied so."""
    return format in FORMATS and columns % TILE == 0


def tables(formats: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The text of `tables`, what IQ2_XXS picks values with, and the input to add; ends with a barrier."""
    reads = GRID in formats
    text = f"threadgroup uint tables[{8 * (256 + 128) + 1 if reads else 1}];\n"
    if reads:
        text += _FILL
    return text + "threadgroup_barrier(mem_flags::mem_threadgroup);", ("iq2_picks",) if reads else ()


def split(columns: int) -> int:
    """Simdgroups that share a row: constant SPLIT of `Shares`."""
    whole = columns // TILE
    return 8 if whole > 4 else 4 if whole > 2 else whole


def rows_of_block(columns: int, sixteens: int = 1) -> int:
    """Rows of a threadgroup whose simdgroups take so many times sixteen."""
    return WARPS // split(columns) * 16 * sixteens


# Experts ----------------------------------------------------------------------------------------------------------


@geometry_cache
def experts_up(g: Geometry, format: str, hashed: bool, clamp: float, logits_stride: int) -> Kernel:
    """(step, x, logits, bias, table, gate, up) -> (mid, chosen, shares)."""
    text, extra = tables([format])
    constants: dict[str, int | float | str] = {
        "D": g.embedding_length, "F": g.expert_feed_forward_length, "E": g.expert_count, "USED": g.expert_used_count,
        "FORMAT": format, "HASHED": hashed, "CLAMP": float(clamp), "SCALE": float(g.expert_weights_scale),
        "LOGITS_STRIDE": logits_stride, "WARPS": WARPS,
    }  # fmt: skip
    return Kernel(
        "wide_up", ("step", "x", "logits", "bias", "table", "gate", "up", *extra), ("mid", "chosen", "shares"),
        THREADS, constants, ("step", *LIBRARIES, "sorting", "routing"), {"TABLES": text},
    )  # fmt: skip


@geometry_cache
def experts_down(g: Geometry, format: str, shared: str, shared_stride: int, shared_at: int) -> Kernel:
    """(mid, chosen, down, shared_mid, shared_down) -> y."""
    text, extra = tables([format, shared])
    constants: dict[str, int | float | str] = {
        "D": g.embedding_length, "F": g.expert_feed_forward_length, "USED": g.expert_used_count, "FORMAT": format,
        "SHARED": shared, "SHARED_STRIDE": shared_stride, "SHARED_AT": shared_at, "WARPS": WARPS,
    }  # fmt: skip
    return Kernel(
        "wide_down", ("mid", "chosen", "down", "shared_mid", "shared_down", *extra), ("y",), THREADS, constants,
        LIBRARIES, {"TABLES": text},
    )  # fmt: skip
