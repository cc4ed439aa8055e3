"""What the segments hold, as a database that several processes read and write at once.

It knows names, places and times, no token ids but those of turn records, and no payload. Errors of SQLite pass through;
`schema.is_damage` tells broken from busy.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds4_backend.cache import schema
from ds4_backend.cache.files import Files
from ds4_backend.cache.records import LEAST_HEADER, MAX_PAYLOAD, MAX_POSITION, MOST_HEADER, Kind, Use
from ds4_backend.cache.schema import Damaged
from ds4_backend.cache.segments import HEAD_BYTES, kind_of

_MANY = 500
"""Parameters in one statement."""
_BLOCK = "b.id, b.parent, b.position, b.segment, s.name, b.offset, b.bytes, b.payload"
_TAIL = "b.id, b.chain, b.position, b.segment, s.name, b.offset, b.bytes, b.payload, b.reason, b.gain, b.used, b.hits"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies: `nbytes` in all, the last `payload` of them payload."""

    segment: int
    name: str
    offset: int
    nbytes: int
    payload: int

    @property
    def header(self) -> int:
        """Bytes before the payload."""
        return self.nbytes - self.payload


@dataclass(frozen=True, slots=True)
class Block:
    """A block as the index knows it. `position` counts the tokens up to its end."""

    key: bytes
    parent: bytes
    position: int
    place: Place


@dataclass(frozen=True, slots=True)
class Tail:
    """A tail as the index knows it. `gain` is how many tokens it lay above the next lower tail when it was written."""

    key: bytes
    chain: bytes
    position: int
    place: Place
    use: Use
    gain: int
    used: float
    hits: int


class Index:
    """One connection, for one thread at a time; `lock` guards it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, files: Files) -> None:
        self.path, self.lock = path, threading.RLock()
        self._connection, self._files = connection, files

    @property
    def current(self) -> bool:
        """Whether this is still the index in force; another process may have made a new one."""
        return self.path.exists()

    def close(self) -> None:
        with self.lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and no other writer in between."""
        with self.lock:
            self._files.step("begin")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._files.step("commit")
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            self._files.step("committed")

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self.lock:
            return self._connection.execute(sql, values).fetchall()

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Execute one statement; the number of rows it changed."""
        with self.lock:
            return self._connection.execute(sql, values).rowcount

    def among(self, sql: str, keys: Sequence[bytes]) -> list[tuple[Any, ...]]:
        """Rows of a query whose `IN (...)` takes all `keys`, however many."""
        found: list[tuple[Any, ...]] = []
        for at in range(0, len(keys), _MANY):
            part = keys[at : at + _MANY]
            found += self.rows(sql.replace("(...)", f"({','.join('?' * len(part))})"), part)
        return found

    # Reading -----------------------------------------------------------------------------------------------------

    def blocks(self, keys: Sequence[bytes]) -> dict[bytes, Block]:
        """Those of `keys` that are stored."""
        sql = f"SELECT {_BLOCK} FROM blocks b JOIN segments s ON s.id = b.segment WHERE b.id IN (...)"
        return {row[0]: block_of(row) for row in self.among(sql, keys)}

    def stored_blocks(self, keys: Sequence[bytes]) -> set[bytes]:
        """Which of `keys` are stored blocks."""
        return {row[0] for row in self.among("SELECT id FROM blocks WHERE id IN (...)", keys)}

    def children(self, key: bytes) -> list[Block]:
        """Blocks that follow `key`, the newest first, at most 16."""
        sql = f"""SELECT {_BLOCK} FROM blocks b JOIN segments s ON s.id = b.segment WHERE b.parent = ?
        ORDER BY b.created DESC LIMIT 16"""
        return [block_of(row) for row in self.rows(sql, (key,))]

    def tails(self, chains: Sequence[bytes]) -> list[Tail]:
        """All tails right after these blocks or roots."""
        sql = f"SELECT {_TAIL} FROM tails b JOIN segments s ON s.id = b.segment WHERE b.chain IN (...)"
        return [tail_of(row) for row in self.among(sql, chains)]

    def leaf_tails(self) -> list[Tail]:
        """Tails that no stored block follows."""
        sql = f"""SELECT {_TAIL} FROM tails b JOIN segments s ON s.id = b.segment
        WHERE NOT EXISTS (SELECT 1 FROM blocks c WHERE c.parent = b.chain)"""
        return [tail_of(row) for row in self.rows(sql)]

    def ends(self) -> list[Tail]:
        """Tails that no other tail follows: the ends of conversations."""
        sql = f"""WITH RECURSIVE below (id) AS (
            SELECT b.parent FROM blocks b JOIN tails t ON t.chain = b.id
            UNION SELECT b.parent FROM blocks b JOIN below ON b.id = below.id)
        SELECT {_TAIL} FROM tails b JOIN segments s ON s.id = b.segment
        WHERE b.chain NOT IN (SELECT id FROM below)"""
        return [tail_of(row) for row in self.rows(sql)]

    def branches(self, keys: Sequence[bytes]) -> set[bytes]:
        """Which of `keys` more than one stored block follows."""
        sql = "SELECT parent FROM blocks WHERE parent IN (...) GROUP BY parent HAVING COUNT(*) > 1"
        return {row[0] for row in self.among(sql, keys)}

    def starts_elsewhere(self, start: bytes, fingerprint: bytes) -> bool:
        """Whether the same first 128 tokens are stored for another model."""
        sql = "SELECT 1 FROM blocks WHERE start = ? AND fingerprint <> ? LIMIT 1"
        return bool(self.rows(sql, (start, fingerprint)))

    def segment_end(self, name: str) -> int | None:
        """Where the committed records of a segment end; None where the index does not know it.

        The records are asked too: one damaged number must not cut off what is committed.
        """
        sql = """SELECT CAST(s.bytes AS INTEGER),
        (SELECT CAST(MAX(offset + bytes) AS INTEGER) FROM blocks WHERE segment = s.id),
        (SELECT CAST(MAX(offset + bytes) AS INTEGER) FROM tails WHERE segment = s.id)
        FROM segments s WHERE s.name = ?"""
        found = self.rows(sql, (name,))
        return max(HEAD_BYTES, *(end or 0 for end in found[0])) if found else None

    def disk_bytes(self) -> int:
        """Bytes of all segments."""
        return self.rows("SELECT CAST(COALESCE(SUM(bytes), 0) AS INTEGER) FROM segments")[0][0]

    def live_bytes(self) -> dict[str, tuple[int, int]]:
        """For every segment: bytes of its file, and how many of them belong to stored records."""
        sql = """SELECT s.name, CAST(s.bytes AS INTEGER), CAST(
        (SELECT COALESCE(SUM(bytes), 0) FROM blocks WHERE segment = s.id) +
        (SELECT COALESCE(SUM(bytes), 0) FROM tails WHERE segment = s.id) AS INTEGER) FROM segments s"""
        return {name: (size, live) for name, size, live in self.rows(sql)}

    def counter(self, name: str, day: str = "") -> float:
        """A counter's value; the day "" is all days."""
        found = self.rows("SELECT CAST(value AS REAL) FROM counters WHERE day = ? AND name = ?", (day, name))
        return found[0][0] if found else 0.0

    # Writing: within a transaction -------------------------------------------------------------------------------

    def add_segment(self, name: str, kind: Kind) -> int:
        """Enter a segment, or find it; its row id."""
        self.run("INSERT OR IGNORE INTO segments (name, kind, bytes) VALUES (?, ?, 0)", (name, int(kind)))
        return self.rows("SELECT id FROM segments WHERE name = ?", (name,))[0][0]

    def grow_segment(self, segment: int, end: int) -> None:
        """The segment's committed records now end at `end`."""
        self.run("UPDATE segments SET bytes = MAX(bytes, ?) WHERE id = ?", (end, segment))

    def add_block(
        self,
        key: bytes,
        parent: bytes,
        fingerprint: bytes,
        position: int,
        start: bytes | None,
        place: Place,
        now: float,
    ) -> None:
        """Enter a block, in place of one that another process entered meanwhile."""
        values = (key, parent, fingerprint, position, start, *_columns(place), now)
        self.run(f"INSERT OR REPLACE INTO blocks VALUES ({','.join('?' * len(values))})", values)

    def add_tail(
        self, key: bytes, chain: bytes, fingerprint: bytes, position: int, use: Use, gain: int, place: Place, now: float
    ) -> None:
        """Enter a tail, in place of one that another process entered meanwhile."""
        values = (key, chain, fingerprint, position, int(use), gain, *_columns(place), now, now, 0)
        self.run(f"INSERT OR REPLACE INTO tails VALUES ({','.join('?' * len(values))})", values)

    def move(self, kind: Kind, key: bytes, old: Place, new: Place) -> bool:
        """A record was copied; False where it is no longer stored at the old place."""
        table = "blocks" if kind is Kind.BLOCK else "tails"
        sql = f"UPDATE {table} SET segment = ?, offset = ? WHERE id = ? AND segment = ? AND offset = ?"
        return self.run(sql, (new.segment, new.offset, key, old.segment, old.offset)) == 1

    def drop(self, kind: Kind, keys: Iterable[bytes]) -> None:
        """Forget records; their bytes stay in the segments until those are removed."""
        table = "blocks" if kind is Kind.BLOCK else "tails"
        for key in keys:
            self.run(f"DELETE FROM {table} WHERE id = ?", (key,))

    def count(self, day: str, **amounts: float) -> None:
        """Add to counters, for this day and for all days."""
        for name, amount in amounts.items():
            for when in (day, "") if amount else ():
                sql = "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value"
                self.run(sql, (when, name, amount))

    def examine(self) -> None:
        """Compare tables and indexes in full. Raises Damaged."""
        if self.rows("PRAGMA integrity_check(1)") != [("ok",)]:
            raise Damaged("the database's indexes contradict its tables")

    def shrink(self) -> None:
        """Leave no deleted value in the database's files. Raises sqlite3.OperationalError while others read."""
        with self.lock:
            self._connection.execute("VACUUM")
            busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if busy:
                raise sqlite3.OperationalError("the index is being read; its log could not be emptied")


def block_of(row: Sequence[Any]) -> Block:
    """A row as `blocks` selects it. Raises Damaged."""
    key, parent, position, *place = row
    if not _is_key(key, parent) or not _is_count(position, MAX_POSITION):
        raise Damaged("a block's row")
    return Block(key, parent, position, _place(place, Kind.BLOCK))


def tail_of(row: Sequence[Any]) -> Tail:
    """A row as `tails` selects it. Raises Damaged."""
    key, chain, position, *place = row[:8]
    use, gain, used, hits = row[8:]
    fine = _is_key(key, chain) and _is_count(position, MAX_POSITION) and _is_count(use, Use.PREFIX)
    if not fine or not _is_count(gain, MAX_POSITION) or not isinstance(used, float) or not isinstance(hits, int):
        raise Damaged("a tail's row")
    return Tail(key, chain, position, _place(place, Kind.TAIL), Use(use), gain, used, hits)


def _place(row: Sequence[Any], kind: Kind) -> Place:
    segment, name, offset, nbytes, payload = row
    if not isinstance(name, str) or kind_of(name) is not kind:
        raise Damaged("a segment's name")
    if not _is_count(offset, 1 << 40) or not _is_count(payload, MAX_PAYLOAD) or not isinstance(nbytes, int):
        raise Damaged("a record's place")
    if not LEAST_HEADER <= nbytes - payload <= MOST_HEADER:
        raise Damaged("a record's size")
    return Place(segment, name, offset, nbytes, payload)


def _columns(place: Place) -> tuple[int, int, int, int]:
    return place.segment, place.offset, place.nbytes, place.payload


def _is_key(*values: Any) -> bool:
    return all(isinstance(value, bytes) and len(value) == 32 for value in values)


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and 0 <= value <= most


def open_index(folder: Path, files: Files) -> Index:
    """The index in force, checked. Raises Damaged or sqlite3.Error; FileNotFoundError where there is none."""
    found = schema.generations(folder)
    if not found:
        raise FileNotFoundError(f"{folder} holds no index")
    connection = schema.connect(found[-1])
    try:
        schema.check(connection)
    except BaseException:
        connection.close()
        raise
    return Index(found[-1], connection, files)
