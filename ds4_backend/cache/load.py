"""Reads stored state into memory: several threads, one copy, every checksum verified.

Blocks land one after another in one buffer, in the order of the chain, so that the engine can look at all of them as
one array. It knows places and bytes; what is bad it names and leaves alone.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ds4_backend.cache.files import Files
from ds4_backend.cache.index import Block, Place, Tail
from ds4_backend.cache.lookup import Hit
from ds4_backend.cache.records import BadRecord, Kind
from ds4_backend.cache.segments import read_record

THREADS = min(4, os.cpu_count() or 1)
_LEAST_SHARE = 16
"""Blocks below which another thread is not worth it."""


class Stale(Exception):
    """A record is not where the index said. `key` names it."""

    def __init__(self, kind: Kind, key: bytes, why: str) -> None:
        super().__init__(why)
        self.kind, self.key = kind, key


class Moved(Stale):
    """The segment is gone: its records were copied elsewhere, or evicted."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """State up to `length` tokens. `blocks` are windows into `pages`, which holds them one after another."""

    length: int
    blocks: tuple[memoryview, ...]
    pages: memoryview
    tail: memoryview
    seconds: float

    @property
    def nbytes(self) -> int:
        return len(self.pages) + len(self.tail)


def load(folder: Path, files: Files, hit: Hit) -> Loaded:
    """Read what `hit` names. Raises Stale naming the first record that is not what it should be, or OSError."""
    began = time.perf_counter()
    if hit.tail is None:
        raise ValueError("nothing to load: the lookup found no resume point")
    _check_places(folder, files, [*hit.blocks, hit.tail])
    ends = [0]
    for block in hit.blocks:
        ends.append(ends[-1] + block.place.payload)
    pages, tail = _memory(ends[-1]), _memory(hit.tail.place.payload)
    parts = tuple(pages[start:stop] for start, stop in pairwise(ends))
    shares = max(1, min(THREADS, len(parts) // _LEAST_SHARE))
    cuts = [len(parts) * i // shares for i in range(shares + 1)]
    if shares == 1:
        _read(folder, files, hit.blocks, parts)
    else:
        with ThreadPoolExecutor(shares) as pool:
            jobs = [pool.submit(_read, folder, files, hit.blocks[a:b], parts[a:b]) for a, b in pairwise(cuts)]
            for job in jobs:
                job.result()
    _read(folder, files, [hit.tail], [tail])
    return Loaded(hit.length, parts, pages, tail, time.perf_counter() - began)


def _memory(size: int) -> memoryview:
    """Fresh memory, not yet touched: the kernel makes its pages while several threads fill them."""
    if not size:
        return memoryview(b"")
    area = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(area)


def _check_places(folder: Path, files: Files, records: Sequence[Block | Tail]) -> None:
    """Before memory is asked for: every record must lie within its file."""
    sizes: dict[str, int] = {}
    for record in records:
        name = record.place.name
        if name not in sizes:
            try:
                sizes[name] = (folder / name).stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                raise Moved(_kind(record), record.key, f"{name} is gone") from None
        if record.place.offset + record.place.nbytes > sizes[name]:
            raise Stale(_kind(record), record.key, f"{name} ends before the record does")


def _read(folder: Path, files: Files, records: Sequence[Block | Tail], into: Sequence[memoryview]) -> None:
    name, fd = "", -1
    try:
        for record, payload in zip(records, into, strict=True):
            place = record.place
            if place.name != name:
                if fd >= 0:
                    os.close(fd)
                fd, name = -1, ""
                fd, name = _open(folder, files, record, place), place.name
            try:
                header = read_record(fd, place.offset, payload, place.header)
            except BadRecord as error:
                raise Stale(_kind(record), record.key, str(error)) from None
            if header.key != record.key:
                raise Stale(_kind(record), record.key, "another record lies there")
    finally:
        if fd >= 0:
            os.close(fd)


def _open(folder: Path, files: Files, record: Block | Tail, place: Place) -> int:
    try:
        return files.open_read(folder / place.name)
    except FileNotFoundError:
        raise Moved(_kind(record), record.key, f"{place.name} is gone") from None


def _kind(record: Block | Tail) -> Kind:
    return Kind.BLOCK if isinstance(record, Block) else Kind.TAIL
