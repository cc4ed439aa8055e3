"""Blocks to float32, by gguf-py's decoders behind one door. It knows block formats, no tensors' names and no files.

Decoding goes in chunks, so that what it needs beside the result is bounded (about 30 bytes for each value of a chunk).
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ds4_backend.errors import UnsupportedType
from ds4_backend.gguf.formats import Format

CHUNK_VALUES = 1 << 17
"""Values decoded at once; on two cores the fastest of 2^14 to 2^20 for most formats, and 4 MB of temporaries."""


def dequantize(data: np.ndarray, format: Format) -> np.ndarray:
    """Decode rows of blocks: uint8 [..., row_bytes] -> a new float32 array [..., n].

    Equal to `gguf.quants.dequantize` bit for bit. Integer and F64 tensors are no weights: they are refused, as is what
    gguf-py cannot decode (UnsupportedType). Raises ValueError for data that is no uint8 rows of whole blocks.
    """
    check_decodable(format)
    if data.dtype != np.uint8 or data.ndim == 0 or data.shape[-1] % format.block_bytes:
        raise ValueError(
            f"{format.name} rows are uint8 [..., whole blocks of {format.block_bytes} bytes], "
            f"not {data.dtype} {list(data.shape)}"
        )
    from gguf.quants import GGMLQuantizationType
    from gguf.quants import dequantize as decode

    kind = GGMLQuantizationType(format.type_id)
    out = np.empty((*data.shape[:-1], data.shape[-1] // format.block_bytes * format.block_size), np.float32)
    source, target = np.ascontiguousarray(data).reshape(-1), out.reshape(-1)
    blocks, step = source.size // format.block_bytes, max(1, CHUNK_VALUES // format.block_size)
    with np.errstate(all="ignore"):  # damaged scales may be inf or nan; they decode to what they decode to
        for first in range(0, blocks, step):
            last = min(first + step, blocks)
            # Blocks do not know their row, so a chunk goes in as one row: gguf-py loops over rows in Python.
            chunk = source[first * format.block_bytes : last * format.block_bytes].reshape(1, -1)
            target[first * format.block_size : last * format.block_size] = decode(chunk, kind).reshape(-1)
    return out


def check_decodable(format: Format, what: str = "the data") -> None:
    """Raise UnsupportedType, naming `what` and its type, where `dequantize` cannot decode the format."""
    if can_decode(format):
        return
    named = f"{what} is stored as {format.name} (type id {format.type_id})"
    if format.dtype is not None:
        raise UnsupportedType(f"{named}, plain numbers that are read as they are, not decoded to float32")
    raise UnsupportedType(f"{named}, which cannot be decoded here; use a build of this model in another format")


@cache
def can_decode(format: Format) -> bool:
    """Whether `dequantize` can decode the format; found by decoding one block of zeros."""
    from gguf.quants import GGMLQuantizationType
    from gguf.quants import dequantize as decode

    try:
        decode(np.zeros((1, format.block_bytes), np.uint8), GGMLQuantizationType(format.type_id))
    except NotImplementedError:
        return False
    return True
