"""Append-only files of records. A segment has one writer at a time; what is committed in it is never changed.

The writer holds the file's lock, appends, syncs, and only then is the index told. Whatever lies behind the last
committed record was never promised to anybody, and the next writer cuts it off. It knows records, not the index.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from ds4_backend.cache.files import Files, is_linked, read_at, try_lock
from ds4_backend.cache.records import MAGIC, MOST_HEADER, BadRecord, Header, Kind, checksum, decode, encode

SEGMENT_MAGIC = b"\x89DS4KVSEGMENT\r\n\x01"
HEAD_BYTES = len(SEGMENT_MAGIC)
_NAME = re.compile(r"(block|tail)s-[0-9a-f]{16}\.seg")
_CHUNK = 1 << 20


def kind_of(name: str) -> Kind | None:
    """What a file of this name holds; None if it is no segment."""
    found = _NAME.fullmatch(name)
    return Kind[found[1].upper()] if found else None


def segment_names(folder: Path) -> list[str]:
    """Names of all segment files, sorted."""
    return sorted(name for name in os.listdir(folder) if kind_of(name))


class Segment:
    """An open segment that this process writes to. `end` is the offset of the next record."""

    def __init__(self, path: Path, fd: int, end: int, files: Files) -> None:
        self.path, self.end = path, end
        self._fd, self._files = fd, files

    @classmethod
    def create(cls, folder: Path, kind: Kind, files: Files) -> Segment:
        """A new, empty segment, locked."""
        while True:
            path = folder / f"{kind.name.lower()}s-{secrets.token_hex(8)}.seg"
            fd = files.create(path)
            if try_lock(fd) and is_linked(fd):  # else a clean-up came between, and took it for an orphan
                break
            os.close(fd)
        try:
            files.write(fd, SEGMENT_MAGIC, 0)
            files.sync_folder(folder)
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd, HEAD_BYTES, files)

    @classmethod
    def take_over(cls, path: Path, files: Files) -> Segment | None:
        """Lock an existing segment; None while another process writes to it, or where it was just removed.

        Ask the index for the committed end after this, not before: until now somebody else could move it. Then `cut`.
        """
        try:
            fd = files.open_write(path)
        except FileNotFoundError:
            return None
        if try_lock(fd) and is_linked(fd):
            return cls(path, fd, os.fstat(fd).st_size, files)
        os.close(fd)
        return None

    def cut(self, end: int) -> bool:
        """Drop what follows the committed records; False where the file is shorter than they are."""
        if self.end < end:
            return False
        if self.end > end:
            self.roll_back(end)
        return True

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def linked(self) -> bool:
        """Whether the file still has its name; a clean-up may have taken it away."""
        return is_linked(self._fd)

    def append(self, header: Header, payload: bytes | memoryview) -> int:
        """Write one record and return its offset. Not durable before `sync`, not visible before the index says so."""
        offset = self.end
        head = encode(header)
        self._files.write(self._fd, head, offset)
        self._files.write(self._fd, payload, offset + len(head))
        self.end = offset + header.nbytes
        return offset

    def sync(self) -> None:
        """Make all appended records durable."""
        self._files.sync(self._fd)

    def harden(self) -> None:
        """Make all of it survive a loss of power."""
        self._files.harden(self._fd)

    def roll_back(self, end: int) -> None:
        """Forget the records from `end` on, which were not committed."""
        self.end = end
        self._files.truncate(self._fd, end)

    def close(self) -> None:
        """Give the lock back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_header(fd: int, offset: int) -> Header:
    """The header at `offset`. Raises BadRecord or OSError."""
    return decode(os.pread(fd, MOST_HEADER, offset))


def read_record(fd: int, offset: int, payload: memoryview, header_bytes: int) -> Header:
    """Fill `payload` from the record at `offset`, in one read, and verify it. Raises BadRecord or OSError."""
    head = bytearray(header_bytes)
    if read_at(fd, [memoryview(head), payload], offset) != header_bytes + len(payload):
        raise BadRecord("the file ends inside the record")
    header = decode(memoryview(head))
    if header.size != header_bytes or header.payload != len(payload) or checksum(payload) != header.payload_sum:
        raise BadRecord("the payload's checksum differs")
    return header


def scan(path: Path, files: Files) -> Iterator[tuple[int, Header]]:
    """Every record whose header is whole and whose payload fits the file, by offset; payloads are not read.

    After damage it goes on at the next magic. Raises OSError.
    """
    fd = files.open_read(path)
    try:
        size = os.fstat(fd).st_size
        at = HEAD_BYTES if os.pread(fd, HEAD_BYTES, 0) == SEGMENT_MAGIC else size
        while at < size:
            try:
                header = read_header(fd, at)
                if at + header.nbytes > size:
                    raise BadRecord("the file ends inside the record")
            except BadRecord:
                at = _next_magic(fd, at + 1, size)
                continue
            yield at, header
            at += header.nbytes
    finally:
        os.close(fd)


def _next_magic(fd: int, at: int, size: int) -> int:
    while at < size:
        chunk = os.pread(fd, _CHUNK, at)
        found = chunk.find(MAGIC)
        if found >= 0:
            return at + found
        if len(chunk) < len(MAGIC):
            break
        at += len(chunk) - len(MAGIC) + 1
    return size
