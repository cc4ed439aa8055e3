"""Where tensors lie in a GGUF file, and whether they can lie there. It reads infos, never the tensors' bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from ds4_backend.errors import FileError
from ds4_backend.gguf.cursor import FETCH_AGAIN, Cursor
from ds4_backend.gguf.formats import Format, format_of, row_bytes

MAX_DIMS = 4
MAX_NAME_BYTES = 64
LEAST_INFO_BYTES = 8 + 1 + 4 + 8 + 4 + 8
"""The smallest tensor info: a name of one byte, one dim, type, offset."""

_LARGEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as the header describes it."""

    name: str
    shape: tuple[int, ...]
    """Row-major: GGUF's dims reversed."""
    format: Format
    offset: int
    """Bytes from the start of the file's tensor data."""
    nbytes: int


def read_tensor_info(cursor: Cursor, index: int) -> TensorInfo:
    """Read the next tensor info. Raises FileError, or UnsupportedType for an unknown type id."""
    start = cursor.at
    name = cursor.text(f"the name of tensor {index}")
    what = f"tensor {name}" if name else f"tensor {index}"
    if not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        raise FileError(
            f"the name of tensor {index} at byte {start:,} has {len(name.encode()):,} bytes; "
            f"GGUF allows 1 to {MAX_NAME_BYTES}; {FETCH_AGAIN}"
        )
    shape = _read_shape(cursor, what)
    format = format_of(cursor.u32(f"the type of {what}"), name)
    offset = cursor.u64(f"the offset of {what}")
    return TensorInfo(name, shape, format, offset, _nbytes(name, shape, format))


def check_layout(tensors: Sequence[TensorInfo], data_start: int, alignment: int, file_bytes: int) -> None:
    """Hold every tensor against the alignment, the other tensors and the file's end. Raises FileError naming it."""
    for info in tensors:
        if info.offset % alignment:
            raise FileError(
                f"tensor {info.name} starts at offset {info.offset:,}, no multiple of the alignment {alignment:,}; "
                f"{FETCH_AGAIN}"
            )
    in_order = sorted(tensors, key=lambda info: info.offset)
    for before, after in pairwise(in_order):
        overlap = before.offset + before.nbytes - after.offset
        if overlap > 0:
            raise FileError(
                f"tensors {before.name} and {after.name} overlap by {overlap:,} bytes "
                f"(offsets {before.offset:,} and {after.offset:,}); {FETCH_AGAIN}"
            )
    if in_order:
        _check_end(in_order[-1], data_start, file_bytes)


def _check_end(last: TensorInfo, data_start: int, file_bytes: int) -> None:
    end = data_start + last.offset + last.nbytes
    if end > file_bytes:
        raise FileError(
            f"the file ends {end - file_bytes:,} bytes early: tensor {last.name} reaches byte {end:,}, but the file "
            f"has {file_bytes:,}: the download is incomplete; run `ds4-backend download` again"
        )


def _read_shape(cursor: Cursor, what: str) -> tuple[int, ...]:
    start = cursor.at
    rank = cursor.u32(f"the number of dims of {what}")
    if not 1 <= rank <= MAX_DIMS:
        raise FileError(f"{what} has {rank:,} dims at byte {start:,}; GGUF allows 1 to {MAX_DIMS}; {FETCH_AGAIN}")
    start = cursor.at
    dims = tuple(cursor.u64(f"the dims of {what}") for _ in range(rank))
    if 0 in dims:
        raise FileError(f"{what} has a dim of zero at byte {start:,}: {list(dims)}; {FETCH_AGAIN}")
    if prod(dims) > _LARGEST:
        raise FileError(f"{what} claims {list(dims)} values at byte {start:,}, too many to count; {FETCH_AGAIN}")
    return dims[::-1]


def _nbytes(name: str, shape: tuple[int, ...], format: Format) -> int:
    try:
        return prod(shape[:-1]) * row_bytes(format, shape[-1])
    except FileError as error:
        raise FileError(f"tensor {name} with shape {list(shape)}: {error}; {FETCH_AGAIN}") from None
