"""Metadata values: numbers, strings, arrays, as GGUF stores them. It knows no keys' meaning.

The type ids are those of the GGUF specification (`gguf_metadata_value_type`).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ds4_backend.errors import FileError
from ds4_backend.gguf.cursor import FETCH_AGAIN, Cursor, decode_text

BOOL, STRING, ARRAY = 7, 8, 9

_NAMES = {
    0: "u8", 1: "i8", 2: "u16", 3: "i16", 4: "u32", 5: "i32", 6: "f32",
    BOOL: "bool", STRING: "string", ARRAY: "array", 10: "u64", 11: "i64", 12: "f64",
}  # fmt: skip
_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", BOOL: "B", 10: "Q", 11: "q", 12: "d"}
_STRUCTS = {kind: struct.Struct("<" + code) for kind, code in _CODES.items()}
_DTYPES = {kind: np.dtype("<" + code) for kind, code in _CODES.items()}

MAX_DEPTH = 4
"""Arrays in arrays. Real files have none; the format allows any number, and so would a damaged one."""

_LEAST_BYTES = {STRING: 8, ARRAY: 12} | {kind: s.size for kind, s in _STRUCTS.items()}


def read_value(cursor: Cursor, what: str) -> tuple[str, Any]:
    """A value with its type id before it: the type's name (`u32`, `array of string`) and the value.

    Numbers and bools become Python's, number arrays read-only numpy arrays (copies), string and nested arrays lists.
    Raises FileError naming `what`.
    """
    kind = _kind(cursor, what)
    if kind == ARRAY:
        return _array(cursor, what, depth=1)
    return _NAMES[kind], cursor.text(what) if kind == STRING else _number(cursor, kind, what)


def _kind(cursor: Cursor, what: str) -> int:
    start = cursor.at
    kind = cursor.u32(f"the type of {what}")
    if kind not in _NAMES:
        raise FileError(f"{what} has value type {kind} at byte {start:,}; GGUF has 0 to 12; {FETCH_AGAIN}")
    return kind


def _number(cursor: Cursor, kind: int, what: str) -> int | float | bool:
    packed = _STRUCTS[kind]
    start = cursor.take(packed.size, what)
    value: int | float = packed.unpack_from(cursor.buffer, start)[0]
    if kind != BOOL:
        return value
    if value > 1:
        raise FileError(f"{what} should be a bool, 0 or 1, but is {value} at byte {start:,}; {FETCH_AGAIN}")
    return bool(value)


def _array(cursor: Cursor, what: str, depth: int) -> tuple[str, Any]:
    if depth > MAX_DEPTH:
        raise FileError(f"{what} nests arrays more than {MAX_DEPTH} deep at byte {cursor.at:,}; {FETCH_AGAIN}")
    kind = _kind(cursor, f"the elements of {what}")
    count = cursor.count(f"elements of {what}", _LEAST_BYTES[kind])
    name = f"array of {_NAMES[kind]}"
    if kind == STRING:
        return name, _strings(cursor, count, what)
    if kind == ARRAY:
        return name, [_array(cursor, f"{what}[{i}]", depth + 1)[1] for i in range(count)]
    return name, _numbers(cursor, kind, count, what)


def _numbers(cursor: Cursor, kind: int, count: int, what: str) -> np.ndarray:
    dtype = _DTYPES[kind]
    start = cursor.take(count * dtype.itemsize, what)
    values = np.frombuffer(cursor.buffer[start : cursor.at], dtype).copy()
    if kind == BOOL:
        if count and values.max() > 1:
            at = int(np.argmax(values > 1))
            raise FileError(
                f"{what}[{at}] should be a bool, 0 or 1, but is {values[at]} at byte {start + at:,}; {FETCH_AGAIN}"
            )
        values = values.astype(np.bool_)
    values.flags.writeable = False
    return values


def _strings(cursor: Cursor, count: int, what: str) -> list[str]:
    # A vocabulary is 257,021 strings: one loop without a call per string reads it in about a tenth of a second.
    buffer, at, limit = cursor.buffer, cursor.at, cursor.limit
    length_at = _STRUCTS[10].unpack_from
    texts: list[str] = []
    for i in range(count):
        start = at + 8
        if start > limit or (stop := start + length_at(buffer, at)[0]) > limit:
            cursor.at = at
            cursor.text(f"{what}[{i}]")  # raises: the length or the text reaches past the end
        try:
            texts.append(str(buffer[start:stop], "utf-8"))
        except UnicodeDecodeError:
            decode_text(buffer, start, stop, f"{what}[{i}]")  # raises, naming the byte
        at = stop
    cursor.at = at
    return texts
