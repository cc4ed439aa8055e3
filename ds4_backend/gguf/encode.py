"""Numbers to stored blocks: `quantize`, the one door to every encoder.

F32, F16, BF16, Q8_0 and MXFP4 are encoded by gguf-py. It has no encoder for Q2_K, Q4_K and IQ2_XXS; these are searched
for here, for the least importance-weighted squared error (`encode_k`, `encode_iq2`). This file checks the input and
feeds rows in batches to the encoders; it does not know files, tensor names or recipes, nor how a search works.

Memory: beside the result, about 4 MB (MXFP4: 9 MB) for each of at most 8 threads, however large the input is. Rows are
read and widened to float32 a batch at a time, so a memory-mapped float16 array never lies in memory as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ds4_backend.errors import ConversionError
from ds4_backend.gguf import encode_iq2, encode_k, formats, k_blocks, pack
from ds4_backend.gguf.formats import Format

BATCH_VALUES = 65_536  # values that a thread takes at a time (one row at least)
MAX_THREADS = 8
F16_MAX = 65_504.0
SMALLEST_SHARE = np.float32(1e-5)  # importance counts as at least this share of its super-block's mean

BlockEncoder = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class _Search:
    """An encoder of our own: x, w [B, 256] and peak [B] to uint8 [B, block_bytes]."""

    encode: BlockEncoder
    batch_blocks: int  # super-blocks at a time; their arrays stay within a few MB


_SEARCHES = {
    "Q2_K": _Search(lambda x, w, peak: pack.pack_q2_k(encode_k.encode_k(x, w, peak, k_blocks.Q2_K)), 256),
    "Q4_K": _Search(lambda x, w, peak: pack.pack_q4_k(encode_k.encode_k(x, w, peak, k_blocks.Q4_K)), 256),
    "IQ2_XXS": _Search(lambda x, w, peak: pack.pack_iq2_xxs(encode_iq2.encode_iq2_xxs(x, w, peak)), 64),
}
"""Encoders that weigh errors by importance."""

LARGEST = {
    "F32": float(np.finfo(np.float32).max),
    "F16": F16_MAX,
    "BF16": 3.3895e38,  # the last finite one is 255·2^120
    "Q8_0": F16_MAX * 127,
    "MXFP4": float(np.finfo(np.float32).max),  # clamps at 6·2^125
    "Q2_K": F16_MAX * 15,  # offset 15 times an f16
    "Q4_K": F16_MAX * 63,
    "IQ2_XXS": F16_MAX * 8 * 15.5 / 4,  # least grid value, largest step
}
"""The largest magnitude each format holds for sure; its keys are the formats that can be encoded."""


def quantize(x: np.ndarray, format_name: str, importance: np.ndarray | None = None) -> np.ndarray:
    """Encode rows of numbers as GGUF blocks of a format.

    x: floating point [..., n], n a whole number of the format's blocks. importance: non-negative [n], or [..., n] that
    broadcasts to x's shape with as many axes (experts: [E, 1, n]); how much an error in that column counts. Q2_K, Q4_K
    and IQ2_XXS minimise sum importance·(x - decoded)^2. Without importance Q2_K and Q4_K weigh all columns alike and
    IQ2_XXS weighs a column by its energy (`column_energy`); the other formats do not use it.

    Returns uint8 [..., row bytes]. A row's bytes depend on that row and its importance alone, not on the batch or the
    number of threads. Raises ConversionError for a format without an encoder, a row length that does not fit, a
    misshapen or negative importance, numbers that are not finite, or too large for the format's f16 scale.
    """
    format = _checked_format(format_name, x)
    weights = None if importance is None else _checked_importance(importance, x.shape)
    if weights is None and format_name == "IQ2_XXS":
        weights = np.broadcast_to(column_energy(x), x.shape)
    out = np.empty((_row_count(x), x.shape[-1] // format.block_size * format.block_bytes), np.uint8)

    def encode(rows: range) -> None:
        values = _checked_rows(x, rows, format_name)
        out[rows.start : rows.stop] = _encode_rows(values, format, None if weights is None else _take(weights, rows))

    with ThreadPoolExecutor(_threads()) as pool:
        list(pool.map(encode, _batches(x)))
    return out.reshape(*x.shape[:-1], out.shape[-1])


def column_energy(x: np.ndarray) -> np.ndarray:
    """Energy of every column in each matrix of x [..., rows, n]: sum of x^2 over the rows, the largest scaled to 1.

    Float32 [..., 1, n] ([n] for a single row): what stands in for importance where none was collected.
    """
    matrices = x if x.ndim > 1 else x[None]
    energy = np.zeros((*matrices.shape[:-2], 1, x.shape[-1]), np.float64)
    for index in np.ndindex(matrices.shape[:-2]):
        for rows in _batches(matrices[index]):
            part = matrices[index][rows.start : rows.stop].astype(np.float64)
            energy[index] += np.einsum("rn,rn->n", part, part)
    top = energy.max(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):  # an infinity is reported with its row when that is encoded
        relative = np.divide(energy, top, out=np.ones_like(energy), where=top > 0).astype(np.float32)
    return relative if x.ndim > 1 else relative[0]


def _checked_format(name: str, x: np.ndarray) -> Format:
    if name not in LARGEST:
        raise ConversionError(f"{name} cannot be encoded; use one of {', '.join(LARGEST)}")
    if x.ndim == 0 or not np.issubdtype(x.dtype, np.floating):
        raise ConversionError(f"{name} encodes rows of floating-point numbers, not {x.dtype} of shape {x.shape}")
    format, n = formats.FORMATS[name], x.shape[-1]
    if n == 0 or n % format.block_size:
        raise ConversionError(
            f"a row of {n:,} values is no whole number of {name} blocks of {format.block_size}; use Q8_0 or F16 here"
        )
    return format


def _checked_importance(importance: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Importance as a float32 view of x's shape."""
    fits = importance.ndim in (1, len(shape)) and importance.shape[-1] == shape[-1]
    if not fits or any(a not in (1, b) for a, b in zip(importance.shape[:-1], shape[:-1], strict=False)):
        raise ConversionError(
            f"importance of shape {importance.shape} does not fit values of shape {shape}; "
            f"give one number per column ({shape[-1]:,}), or the same number of axes with 1 where rows share it"
        )
    wrong = ~(importance >= 0) | ~np.isfinite(importance)
    if wrong.any():
        where = np.unravel_index(wrong.argmax(), wrong.shape)
        raise ConversionError(
            f"importance must be finite and at least 0, but is {importance[where]} in column {where[-1]}; "
            f"{wrong.sum():,} of {wrong.size:,} values are wrong: collect it again"
        )
    return np.broadcast_to(importance.astype(np.float32), shape)


def _checked_rows(x: np.ndarray, rows: range, format_name: str) -> np.ndarray:
    """Those rows as float32 [rows, n], all finite and within the format's range."""
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(_take(x, rows), np.float32)
    good = np.abs(values) <= LARGEST[format_name]
    if good.all():
        return values
    row, column = np.unravel_index(good.argmin(), good.shape)
    index = [int(i) for i in np.unravel_index(rows.start + row, x.shape[:-1])] if x.ndim > 1 else [0]
    where = f"row {index[0] if len(index) == 1 else index} holds {values[row, column]:.6g} in column {column}"
    if not np.isfinite(values[row, column]):
        raise ConversionError(f"{where}; {format_name} is encoded from finite float32 numbers: check the checkpoint")
    raise ConversionError(
        f"{where}; {format_name} holds values up to {LARGEST[format_name]:.6g}: keep this tensor in BF16 or F32"
    )


def _row_count(x: np.ndarray) -> int:
    return int(np.prod(x.shape[:-1], dtype=np.int64))


def _batches(x: np.ndarray) -> Iterator[range]:
    step = max(1, BATCH_VALUES // x.shape[-1])
    total = _row_count(x)
    return (range(start, min(start + step, total)) for start in range(0, total, step))


def _take(x: np.ndarray, rows: range) -> np.ndarray:
    """Rows of x [..., n], counted over all leading axes: [rows, n]. Copies these rows and no others."""
    return x[np.unravel_index(np.arange(rows.start, rows.stop), x.shape[:-1])] if x.ndim > 1 else x[None]


def _threads() -> int:
    return min(MAX_THREADS, os.cpu_count() or 1)


def _encode_rows(values: np.ndarray, format: Format, weights: np.ndarray | None) -> np.ndarray:
    """values, weights: float32 [rows, n] -> uint8 [rows, row bytes]."""
    search = _SEARCHES.get(format.name)
    if search is None:
        return _encode_with_gguf(values, format)
    blocks = values.reshape(-1, format.block_size)
    shares = np.ones_like(blocks) if weights is None else _shares(weights.reshape(blocks.shape))
    peak = np.abs(blocks).max(axis=1)
    peak = np.where(peak > 0, peak, np.float32(1))
    parts = [slice(i, i + search.batch_blocks) for i in range(0, len(blocks), search.batch_blocks)]
    packed = [search.encode(blocks[p] / peak[p, None], shares[p], peak[p]) for p in parts]
    return np.concatenate(packed).reshape(len(values), -1)


def _shares(weights: np.ndarray) -> np.ndarray:
    """Importance relative to its super-block's mean, never zero; float32 [B, 256].

    A column that no input ever used must still decode to something near: its error would cost nothing here, but may
    elsewhere. A super-block without any importance counts all columns alike.
    """
    top = weights.max(axis=1, keepdims=True)
    relative = np.divide(weights, top, out=np.ones_like(weights), where=top > 0)
    return np.maximum(relative / relative.mean(axis=1, keepdims=True), SMALLEST_SHARE)


def _encode_with_gguf(values: np.ndarray, format: Format) -> np.ndarray:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize as encode

    if format.name == "MXFP4":  # gguf-py's exponent wraps round for blocks below 2^-125, far below any weight
        blocks = values.reshape(-1, format.block_size)
        tiny = np.abs(blocks).max(axis=1, keepdims=True) < 2.0**-125
        values = np.where(tiny, np.float32(0), blocks).reshape(values.shape)
    with np.errstate(all="ignore"):  # a block too small for its scale divides by zero on its way to zero
        return encode(values, GGMLQuantizationType(format.type_id)).view(np.uint8).reshape(len(values), -1)
