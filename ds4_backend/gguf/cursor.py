"""A place in a file's bytes that never runs past their end. It knows how to read with bounds, no GGUF structure."""

from __future__ import annotations

import struct

from ds4_backend.errors import FileError

HEADER_LIMIT = 128 << 20
"""Bytes a header may take. V4's is about 6 MB; a damaged count must not make us walk through 80 GB of weights."""

FETCH_AGAIN = "the file is damaged or its download is incomplete; run `ds4-backend download` again"

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


class Cursor:
    """Reads forward through `buffer`. Every read says what it is for, so that an error can."""

    __slots__ = ("at", "buffer", "file_bytes", "limit")

    def __init__(self, buffer: memoryview, file_bytes: int) -> None:
        self.buffer = buffer
        self.at = 0
        self.file_bytes = file_bytes
        self.limit = min(len(buffer), HEADER_LIMIT)

    @property
    def left(self) -> int:
        """Bytes that may still be read."""
        return self.limit - self.at

    def take(self, n: int, what: str) -> int:
        """Claim the next `n` bytes and return where they start. Raises FileError where they reach past the end."""
        start = self.at
        if n > self.limit - start:
            raise FileError(self.too_short(n, what))
        self.at = start + n
        return start

    def too_short(self, n: int, what: str) -> str:
        """What to say about `n` bytes for `what` at this place when they do not fit."""
        claim = f"{what} at byte {self.at:,} takes {n:,} bytes"
        if self.limit == HEADER_LIMIT:
            return f"{claim}, past the {HEADER_LIMIT:,} bytes that a header may take; {FETCH_AGAIN}"
        missing = n - self.left
        return f"{claim}, but the file ends {missing:,} bytes early, at byte {self.limit:,}; {FETCH_AGAIN}"

    def u32(self, what: str) -> int:
        """An unsigned 32-bit number."""
        return int(_U32.unpack_from(self.buffer, self.take(4, what))[0])

    def u64(self, what: str) -> int:
        """An unsigned 64-bit number."""
        return int(_U64.unpack_from(self.buffer, self.take(8, what))[0])

    def count(self, what: str, least_bytes: int) -> int:
        """A u64 number of things of at least `least_bytes` each. Raises FileError where they cannot fit in the file."""
        start = self.at
        n = self.u64(f"the number of {what}")
        if n > self.left // least_bytes:
            raise FileError(
                f"the file claims {n:,} {what} at byte {start:,}; they need at least {least_bytes} bytes each, "
                f"but {self.left:,} bytes are left; {FETCH_AGAIN}"
            )
        return n

    def text(self, what: str) -> str:
        """A string: u64 length, then UTF-8. Raises FileError where it is no UTF-8."""
        n = self.u64(f"the length of {what}")
        start = self.take(n, what)
        return decode_text(self.buffer, start, start + n, what)


def decode_text(buffer: memoryview, start: int, stop: int, what: str) -> str:
    """The UTF-8 text in `buffer[start:stop]`. Raises FileError naming `what` and the first bad byte."""
    try:
        return str(buffer[start:stop], "utf-8")
    except UnicodeDecodeError as error:
        at = start + error.start
        raise FileError(f"{what} is no valid UTF-8: byte 0x{buffer[at]:02x} at byte {at:,}; {FETCH_AGAIN}") from None
