"""What the store holds and what it did, as plain values: for `cache stats`, `cache ls` and `cache verify`.

It reads; only `verify` changes anything, when it sets bad records aside.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ds4_backend.cache.budget import Budget, day_of
from ds4_backend.cache.files import Files
from ds4_backend.cache.index import Index, Place
from ds4_backend.cache.records import BadRecord, Kind
from ds4_backend.cache.segments import read_record
from ds4_backend.cache.tidy import folder_bytes, records_in


@dataclass(frozen=True, slots=True)
class Stats:
    """The whole store. Sizes in bytes; `tokens_*` and `seconds_saved` over the store's life."""

    folder: str
    bytes_on_disk: int
    max_bytes: int
    tokens: int
    blocks: int
    tails: int
    turns: int
    conversations: int
    models: int
    written_today: int
    written_total: int
    daily_bytes: int
    copied_total: int
    read_total: int
    requests: int
    tokens_asked: int
    tokens_hit: int
    seconds_saved: float
    bad_records: int

    @property
    def hit_ratio(self) -> float:
        """Share of all prompt tokens that did not have to be computed."""
        return self.tokens_hit / self.tokens_asked if self.tokens_asked else 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One conversation: the way from a root to a tail that nothing follows. `nbytes` includes what it shares."""

    key: str
    model: str
    fingerprint: str
    tokens: int
    nbytes: int
    tails: int
    created: float
    used: float
    hits: int


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of reading everything: records and bytes read, and the names of records that were bad."""

    records: int
    nbytes: int
    bad: tuple[str, ...]


def stats(index: Index, folder: Path, budget: Budget, now: float) -> Stats:
    """Count everything."""

    def count(sql: str) -> int:
        return int(index.rows(sql)[0][0] or 0)

    return Stats(
        folder=str(folder),
        bytes_on_disk=folder_bytes(folder),
        max_bytes=budget.limits.max_bytes,
        tokens=count("SELECT COUNT(*) * 128 FROM blocks"),
        blocks=count("SELECT COUNT(*) FROM blocks"),
        tails=count("SELECT COUNT(*) FROM tails"),
        turns=count("SELECT COUNT(*) FROM turns"),
        conversations=len(index.ends()),
        models=count("SELECT COUNT(DISTINCT fingerprint) FROM blocks"),
        written_today=_bytes_written(index, day_of(now)),
        written_total=_bytes_written(index, ""),
        daily_bytes=budget.limits.daily_bytes,
        copied_total=int(index.counter("compacted")),
        read_total=int(index.counter("read")),
        requests=int(index.counter("requests")),
        tokens_asked=int(index.counter("asked")),
        tokens_hit=int(index.counter("hit")),
        seconds_saved=index.counter("saved"),
        bad_records=int(index.counter("bad")),
    )


def entries(index: Index) -> tuple[Entry, ...]:
    """All conversations, the last used first."""
    labels = dict(index.rows("SELECT fingerprint, label FROM models"))
    found = []
    for tail in sorted(index.ends(), key=lambda tail: -tail.used):
        fingerprint, created = index.rows("SELECT fingerprint, created FROM tails WHERE id = ?", (tail.key,))[0]
        blocks, tails, count = _way(index, tail.chain)
        found.append(
            Entry(
                tail.key.hex()[:16], labels.get(fingerprint, "unknown"), fingerprint.hex(), tail.position,
                blocks + tails, count, created, tail.used, tail.hits,
            )
        )  # fmt: skip
    return tuple(found)


def _way(index: Index, chain: bytes) -> tuple[int, int, int]:
    """Bytes of the blocks and of the tails from a root to a block, and how many tails those are."""
    sql = """WITH RECURSIVE way (id, parent, bytes) AS (
        SELECT id, parent, bytes FROM blocks WHERE id = ?
        UNION SELECT b.id, b.parent, b.bytes FROM blocks b JOIN way ON b.id = way.parent)
    SELECT (SELECT COALESCE(SUM(bytes), 0) FROM way), COALESCE(SUM(t.bytes), 0), COUNT(t.id)
    FROM way JOIN tails t ON t.chain = way.id"""
    blocks, tails, count = index.rows(sql, (chain,))[0]
    return blocks, tails, count


def verify(index: Index, folder: Path, files: Files, now: float) -> Verified:
    """Read every record and compare its checksums. Bad ones are set aside: they no longer count as stored."""
    records = nbytes = 0
    bad: list[str] = []
    for name in index.live_bytes():
        places = list(records_in(index, name))
        for kind, key, place in places:
            why = _examine(folder, files, key, place)
            records, nbytes = records + 1, nbytes + place.nbytes
            if why:
                bad.append(f"{kind.name.lower()} {key.hex()[:16]} in {name} at {place.offset}: {why}")
                set_aside(index, kind, key, place, now)
    return Verified(records, nbytes, tuple(bad))


def set_aside(index: Index, kind: Kind, key: bytes, place: Place, now: float) -> bool:
    """Quarantine a record that is not what it should be; False where the index has it elsewhere by now. Raises Damaged
    where the index itself turns out broken."""
    table = "blocks" if kind is Kind.BLOCK else "tails"
    with index.transaction():
        there = "segment = ? AND offset = ? AND (SELECT name FROM segments s WHERE s.id = segment) = ?"
        values = (key, place.segment, place.offset, place.name)
        done = index.run(f"DELETE FROM {table} WHERE id = ? AND {there}", values) == 1
        if done:
            index.run(
                "INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?, ?)", (key, place.segment, place.nbytes, now)
            )  # fmt: skip
            index.count(day_of(now), bad=1)
    if done:
        index.examine()  # a bad place may be the database's fault
    return done


def _examine(folder: Path, files: Files, key: bytes, place: Place) -> str:
    try:
        fd = files.open_read(folder / place.name)
    except OSError as error:
        return str(error.strerror or error)
    try:
        if os.fstat(fd).st_size < place.offset + place.nbytes:
            return "the file ends before the record does"
        header = read_record(fd, place.offset, memoryview(bytearray(place.payload)), place.header)
    except BadRecord as error:
        return str(error)
    finally:
        os.close(fd)
    return "" if header.key == key else "another record lies there"


def _bytes_written(index: Index, day: str) -> int:
    return int(index.counter("written", day))
