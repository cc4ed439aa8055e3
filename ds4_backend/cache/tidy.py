"""Gives disk space back: empty segments, half-empty ones, and what crashes left behind.

A segment is never changed: its live records are copied to another, then it is unlinked. Whoever has it open reads on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ds4_backend.cache import schema
from ds4_backend.cache.budget import day_of
from ds4_backend.cache.evict import evict
from ds4_backend.cache.files import folder_lock
from ds4_backend.cache.index import Index, Place, block_of, tail_of
from ds4_backend.cache.records import BadRecord, Header, Kind
from ds4_backend.cache.segments import HEAD_BYTES, Segment, kind_of, read_record, segment_names

if TYPE_CHECKING:
    from ds4_backend.cache.writer import Writer

SLACK = 0.05
"""Share of the store freed beyond what a batch needs, so that not every batch has to."""
WASTE = 0.5
"""A segment with a larger share of dead bytes than this is copied while room is being made."""
COUNTED_SECONDS = 60 * 86400.0
"""How long the counters of single days are kept."""
_COLUMNS = "b.position, b.segment, s.name, b.offset, b.bytes, b.payload"


def make_room(writer: Writer, index: Index, need: int) -> bool:
    """Bring the store below its limit by `need` bytes. False where what is left is in use, or there is too little."""
    for waste in (None, WASTE, WASTE / 2, 0.0):
        over = writer.budget.over(index, need)
        if over <= 0:
            return True
        if waste is not None:
            dead = sum(size - live for size, live in index.live_bytes().values())
            missing = over + int(writer.budget.limits.max_bytes * SLACK)
            evict(index, max(missing - dead if waste == WASTE else missing, 0), writer.clock())
        reclaim(writer, index, 1.0 if waste is None else waste, over)
    return writer.budget.over(index, need) <= 0


def reclaim(writer: Writer, index: Index, waste: float, need: int | None = None, *, even_in_use: bool = False) -> int:
    """Remove segments without live records, and copy away those with more than `waste` dead, the emptiest first.

    Stops once `need` bytes are free. Segments that a process is writing to are left alone unless `even_in_use`: their
    writer then finds its segment gone, and takes another. Returns the bytes given back.
    """
    freed = 0
    shares = {name: (size - HEAD_BYTES - live, size, live) for name, (size, live) in index.live_bytes().items()}
    for name, (dead, size, live) in sorted(shares.items(), key=lambda item: -item[1][0] / max(item[1][1], 1)):
        if need is not None and freed >= need:
            break
        empty = live == 0
        if not empty and (dead <= 0 or dead < waste * size):
            continue
        freed += _remove_segment(writer, index, name, even_in_use) - (0 if empty else live)
    return freed


def _remove_segment(writer: Writer, index: Index, name: str, even_in_use: bool) -> int:
    """Copy what lives in a segment and unlink it; the bytes of the file, or 0 where that could not be."""
    path = writer.folder / name
    if writer.owns(name):
        writer.seal()
    lock = Segment.take_over(path, writer.files)
    try:
        if lock is None and path.exists() and not even_in_use:
            return 0
        end = index.segment_end(name) or 0
        if path.exists():
            _copy_live(writer, index, path)
        with index.transaction():
            index.run("DELETE FROM quarantine WHERE segment IN (SELECT id FROM segments WHERE name = ?)", (name,))
            gone = remove_if_empty(index, name)
        if gone:
            writer.files.unlink(path)
        return end if gone else 0
    finally:
        if lock:
            lock.close()


def _copy_live(writer: Writer, index: Index, path: Path) -> None:
    fd = writer.files.open_read(path)
    try:
        bad: list[tuple[Kind, bytes]] = []
        records = list(records_in(index, path.name))
        while records:
            part, records = records[:64], records[64:]
            writer.copy(index, list(_read(fd, part, bad)))
        with index.transaction():
            for kind, key in bad:
                index.drop(kind, [key])
    finally:
        os.close(fd)


def _read(
    fd: int, records: list[tuple[Kind, bytes, Place]], bad: list[tuple[Kind, bytes]]
) -> Iterator[tuple[bytes, Header, memoryview, Place]]:
    for kind, key, place in records:
        payload = memoryview(bytearray(place.payload))
        try:
            header = read_record(fd, place.offset, payload, place.header)
            if header.key != key:
                raise BadRecord("another record lies there")
        except BadRecord:
            bad.append((kind, key))
            continue
        yield key, header, payload, place


def records_in(index: Index, name: str) -> Iterator[tuple[Kind, bytes, Place]]:
    """All records that the index holds in a segment."""
    where = "JOIN segments s ON s.id = b.segment WHERE s.name = ? ORDER BY b.offset"
    for row in index.rows(f"SELECT b.id, b.parent, {_COLUMNS} FROM blocks b {where}", (name,)):
        yield Kind.BLOCK, row[0], block_of(row).place
    rest = f"{_COLUMNS}, b.reason, b.gain, b.used, b.hits FROM tails b {where}"
    for row in index.rows(f"SELECT b.id, b.chain, {rest}", (name,)):
        yield Kind.TAIL, row[0], tail_of(row).place


def remove_if_empty(index: Index, name: str) -> bool:
    """Forget a segment that holds no stored record; within a transaction."""
    sql = """DELETE FROM segments WHERE name = ? AND NOT EXISTS (SELECT 1 FROM blocks WHERE segment = segments.id)
    AND NOT EXISTS (SELECT 1 FROM tails WHERE segment = segments.id)"""
    return index.run(sql, (name,)) == 1


def collect(writer: Writer, index: Index, *, even_in_use: bool = False) -> int:
    """Remove everything that no stored record needs; the bytes given back on disk. Raises Damaged."""
    index.examine()  # what it says decides what is removed
    before = folder_bytes(writer.folder)
    writer.seal()
    _drop_unreachable(index, writer.clock())
    _remove_leftovers(writer, index)
    reclaim(writer, index, 0.0, even_in_use=even_in_use)
    writer.seal()
    return before - folder_bytes(writer.folder)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in the store's folder."""
    total = 0
    for entry in os.scandir(folder):
        try:
            total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:  # removed while we looked
            continue
    return total


def _drop_unreachable(index: Index, now: float) -> None:
    with index.transaction():
        sql = "DELETE FROM blocks WHERE position > 128 AND parent NOT IN (SELECT id FROM blocks)"
        while index.run(sql):
            pass
        index.run("DELETE FROM tails WHERE position >= 128 AND chain NOT IN (SELECT id FROM blocks)")
        index.run("DELETE FROM leases WHERE until < ?", (now,))
        index.run("DELETE FROM counters WHERE day <> '' AND day < ?", (day_of(now - COUNTED_SECONDS),))


def _remove_leftovers(writer: Writer, index: Index) -> None:
    folder, files = writer.folder, writer.files
    for name in segment_names(folder):
        with folder_lock(folder, files):
            segment = Segment.take_over(folder / name, files)
            if segment is None:
                continue
            end = index.segment_end(name)
            if index.current and end is None:
                files.unlink(folder / name)
            elif index.current and end is not None:
                segment.cut(end)
            segment.close()
    with folder_lock(folder, files):
        current = schema.generations(folder)[-1:]
        for entry in sorted(os.listdir(folder)):
            if entry.startswith("index-") and not any(entry.startswith(path.name) for path in current):
                files.unlink(folder / entry)
    missing = [name for name in index.live_bytes() if not (folder / name).exists() or kind_of(name) is None]
    with index.transaction():
        for name in missing:
            for table in ("blocks", "tails"):
                index.run(f"DELETE FROM {table} WHERE segment IN (SELECT id FROM segments WHERE name = ?)", (name,))
            remove_if_empty(index, name)
