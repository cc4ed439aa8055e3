"""A GGUF header: version, metadata, and where each tensor lies. It needs bytes only, no file, and reads no weights.

The layout is that of the GGUF specification, versions 2 and 3, little-endian: magic, u32 version, u64 number of
tensors, u64 number of keys, keys with values, tensor infos, padding to the alignment, tensor data.
"""

from __future__ import annotations

from dataclasses import dataclass
from mmap import mmap
from typing import Any

from ds4_backend.errors import FileError
from ds4_backend.gguf.cursor import FETCH_AGAIN, Cursor
from ds4_backend.gguf.layout import LEAST_INFO_BYTES, TensorInfo, check_layout, read_tensor_info
from ds4_backend.gguf.values import read_value

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_KEY_BYTES = 65535
_LEAST_KEY_BYTES = 8 + 1 + 4 + 1
"""The smallest key and value: a key of one byte, a type, a u8."""


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """All that stands before the tensor data, held against the size of the file."""

    version: int
    alignment: int
    data_start: int
    """The byte at which tensor data starts."""
    metadata: dict[str, Any]
    """Python numbers, bools and strings; number arrays as numpy arrays; string arrays as lists."""
    value_types: dict[str, str]
    """Each key's type as stored, such as `u32` or `array of string`."""
    tensors: tuple[TensorInfo, ...]


def parse_header(buffer: bytes | bytearray | memoryview | mmap, file_bytes: int | None = None) -> Header:
    """Parse and validate the header at the start of `buffer`.

    `file_bytes` is the size of the whole file where `buffer` is only its beginning. Nothing is allocated that the
    remaining bytes cannot justify. Raises FileError (UnsupportedType for an unknown block format) saying what is wrong,
    at which byte, and what to do.
    """
    with memoryview(buffer) as view:
        cursor = Cursor(view, len(view) if file_bytes is None else file_bytes)
        version = _version(cursor)
        tensor_count = cursor.count("tensors", LEAST_INFO_BYTES)
        key_count = cursor.count("metadata keys", _LEAST_KEY_BYTES)
        metadata, value_types = _metadata(cursor, key_count)
        tensors = _tensors(cursor, tensor_count)
        alignment = _alignment(metadata, value_types)
        data_start = -(-cursor.at // alignment) * alignment
        check_layout(tensors, data_start, alignment, cursor.file_bytes)
    return Header(version, alignment, data_start, metadata, value_types, tensors)


def _version(cursor: Cursor) -> int:
    magic = bytes(cursor.buffer[:4])
    if magic != MAGIC:
        raise FileError(_not_gguf(bytes(cursor.buffer[:64])))
    cursor.take(4, "the magic")
    version = cursor.u32("the version")
    if version in VERSIONS:
        return version
    if int.from_bytes(version.to_bytes(4, "little"), "big") in (1, *VERSIONS):
        raise FileError("the file is a big-endian GGUF; ds4-backend reads little-endian files only: get that build")
    raise FileError(
        f"the file is GGUF version {version:,}; ds4-backend reads versions 2 and 3: "
        + ("convert it again with a current converter" if version == 1 else FETCH_AGAIN)
    )


def _not_gguf(start: bytes) -> str:
    if not start:
        return f"the file is empty; {FETCH_AGAIN}"
    if start.startswith(b"version https://git-lfs"):
        return "the file is a Git LFS pointer, not the model itself; run `ds4-backend download`, or `git lfs pull`"
    if start.lstrip()[:1] == b"<":
        return "the file is a web page, not a GGUF file; run `ds4-backend download` again"
    return f"the file is no GGUF file: it starts with {start[:4]!r}, not {MAGIC!r}"


def _metadata(cursor: Cursor, count: int) -> tuple[dict[str, Any], dict[str, str]]:
    metadata: dict[str, Any] = {}
    types: dict[str, str] = {}
    for index in range(count):
        start = cursor.at
        key = cursor.text(f"the name of metadata key {index}")
        if not 0 < len(key.encode()) <= MAX_KEY_BYTES:
            raise FileError(
                f"the name of metadata key {index} at byte {start:,} has {len(key.encode()):,} bytes; "
                f"GGUF allows 1 to {MAX_KEY_BYTES:,}; {FETCH_AGAIN}"
            )
        if key in metadata:
            raise FileError(f"metadata key {key} stands in the file twice, again at byte {start:,}; {FETCH_AGAIN}")
        types[key], metadata[key] = read_value(cursor, f"metadata key {key}")
    return metadata, types


def _tensors(cursor: Cursor, count: int) -> tuple[TensorInfo, ...]:
    infos: dict[str, TensorInfo] = {}
    for index in range(count):
        start = cursor.at
        info = read_tensor_info(cursor, index)
        if info.name in infos:
            raise FileError(f"tensor {info.name} stands in the file twice, again at byte {start:,}; {FETCH_AGAIN}")
        infos[info.name] = info
    return tuple(infos.values())


def _alignment(metadata: dict[str, Any], types: dict[str, str]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if types.get("general.alignment", "u32") != "u32" or alignment.bit_count() != 1:
        raise FileError(
            f"metadata key general.alignment is {alignment!r} ({types['general.alignment']}); "
            f"it must be a u32 and a power of two; {FETCH_AGAIN}"
        )
    return int(alignment)
