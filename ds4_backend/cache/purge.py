"""Makes the store forget, for good: no text and no token id of what is purged stays in any of its files.

Rows go first, in one transaction; then segments that held them are copied without them and removed, and the database is
written anew (SQLite overwrites deleted values with zeros, too).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ds4_backend.cache import turns
from ds4_backend.cache.evict import Eviction
from ds4_backend.cache.files import Files
from ds4_backend.cache.index import Block, Index, block_of
from ds4_backend.cache.keys import BLOCK_TOKENS, ID_BYTES, pack_ids
from ds4_backend.cache.records import BadRecord, Header, Kind
from ds4_backend.cache.segments import read_header
from ds4_backend.cache.tidy import collect
from ds4_backend.cache.writer import Writer

PATIENCE_SECONDS = 10.0
_BLOCK_BYTES = BLOCK_TOKENS * ID_BYTES


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge removed: records, turn records, and bytes on disk."""

    blocks: int
    tails: int
    turns: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Target:
    """What to forget; everything where nothing is named. Several conditions forget what meets any of them.

    `unused_for` in seconds; `fingerprint` one model; `ids` any of these rows of token ids; `text` turns whose note
    holds it.
    """

    unused_for: float | None = None
    fingerprint: bytes | None = None
    ids: Sequence[Sequence[int]] = ()
    text: str = ""

    @property
    def everything(self) -> bool:
        return self.unused_for is None and self.fingerprint is None and not self.ids and not self.text


def purge(writer: Writer, index: Index, target: Target) -> Purged:
    """Forget it. Raises sqlite3.Error or OSError; then it is not certain that all of it is gone, and it must be run
    again."""
    before = _counts(index)
    needles = [pack_ids(ids) for ids in target.ids if ids]
    blocks, tails = _holding(index, writer.folder, writer.files, needles) if needles else (set(), set())
    now = writer.clock()
    with index.transaction():
        if target.everything:
            for table in ("blocks", "tails", "turns", "calls", "models"):
                index.run(f"DELETE FROM {table}")
        _forget_model(index, target.fingerprint)
        if target.unused_for is not None:
            _forget_unused(index, now, now - target.unused_for)
        _forget_chains(index, blocks, tails)
        _forget_turns(index, needles, target.text)
        for table in ("ghosts", "leases", "quarantine"):
            index.run(f"DELETE FROM {table}")
    freed = collect(writer, index, even_in_use=True)
    _shrink(index)
    after = _counts(index)
    return Purged(before[0] - after[0], before[1] - after[1], before[2] - after[2], freed)


def _counts(index: Index) -> tuple[int, int, int]:
    sql = "SELECT (SELECT COUNT(*) FROM blocks), (SELECT COUNT(*) FROM tails), (SELECT COUNT(*) FROM turns)"
    blocks, tails, records = index.rows(sql)[0]
    return blocks, tails, records


def _forget_model(index: Index, fingerprint: bytes | None) -> None:
    if fingerprint is not None:
        turns.forget(index, "fingerprint = ?", (fingerprint,))
        for table in ("blocks", "tails", "models"):
            index.run(f"DELETE FROM {table} WHERE fingerprint = ?", (fingerprint,))


def _forget_unused(index: Index, now: float, before: float) -> None:
    turns.forget(index, "used < ?", (before,))
    index.run("DELETE FROM leases")
    round_ = Eviction(index, now)
    for chain, key in index.rows("SELECT chain, id FROM tails WHERE used < ?", (before,)):
        index.drop(Kind.TAIL, [key])
        round_.trim(chain)
    leaves = """SELECT id FROM blocks b WHERE created < ? AND NOT EXISTS (SELECT 1 FROM blocks c WHERE c.parent = b.id)
    AND NOT EXISTS (SELECT 1 FROM tails t WHERE t.chain = b.id)"""
    for (key,) in index.rows(leaves, (before,)):
        round_.trim(key)


def _forget_chains(index: Index, blocks: set[bytes], tails: set[bytes]) -> None:
    """Forget these records, and all that builds on the blocks."""
    index.drop(Kind.TAIL, tails)
    below = """WITH RECURSIVE below (id) AS (SELECT ? UNION SELECT b.id FROM blocks b JOIN below ON b.parent = below.id)
    SELECT id FROM below"""
    for key in blocks:
        gone = [row[0] for row in index.rows(below, (key,))]
        index.drop(Kind.BLOCK, gone)
        for chain in gone:
            index.run("DELETE FROM tails WHERE chain = ?", (chain,))


def _forget_turns(index: Index, needles: list[bytes], text: str) -> None:
    for needle in needles:
        for number, ids in index.rows("SELECT id, ids FROM turns WHERE INSTR(ids, ?)", (needle,)):
            if _find(ids, needle) >= 0:
                turns.forget(index, "id = ?", (number,))
    if text:
        turns.forget(index, "INSTR(note, ?)", (text.encode("utf-8", "surrogatepass"),))


def _holding(index: Index, folder: Path, files: Files, needles: list[bytes]) -> tuple[set[bytes], set[bytes]]:
    """Blocks in which a needle begins, and tails in whose ids one ends. Reads the headers of all records."""
    places = "b.segment, s.name, b.offset, b.bytes, b.payload"
    sql = f"SELECT b.id, b.parent, b.position, {places} FROM {{}} b JOIN segments s ON s.id = b.segment"
    blocks = {row[0]: block_of(row) for row in index.rows(sql.format("blocks"))}
    tokens = {key: _tokens(folder, files, block.place.name, block.place.offset) for key, block in blocks.items()}
    longest = max(map(len, needles))
    hit_blocks = {key for key in blocks if not tokens[key]}  # unreadable: nobody can say what it holds
    for key in blocks:
        _search(blocks, tokens, key, b"", needles, longest, hit_blocks)
    hit_tails: set[bytes] = set()
    for key, chain, name, offset in index.rows(
        "SELECT b.id, b.chain, s.name, b.offset FROM tails b JOIN segments s ON s.id = b.segment"
    ):
        rest = _tokens(folder, files, name, offset)
        if _search(blocks, tokens, chain, rest, needles, longest, hit_blocks):
            hit_tails.add(key)
    return hit_blocks, hit_tails


def _search(
    blocks: dict[bytes, Block], tokens: dict[bytes, bytes], key: bytes, rest: bytes, needles: list[bytes],
    longest: int, hits: set[bytes],
) -> bool:  # fmt: skip
    """Look for needles that end in the last piece of a way: block `key`, or `rest` after it. The blocks in which they
    begin go into `hits`."""
    way: list[bytes] = []
    while key in blocks and (len(way) - 1) * _BLOCK_BYTES < longest:
        way.insert(0, key)
        key = blocks[key].parent
    text = b"".join(tokens[one].ljust(_BLOCK_BYTES, b"\0") for one in way) + rest
    found = False
    for needle in needles:
        at = _find(text, needle)
        while at >= 0:
            found = True
            hits.update(way[at // _BLOCK_BYTES : at // _BLOCK_BYTES + 1])
            at = _find(text, needle, at + ID_BYTES)
    return found


def _find(text: bytes, needle: bytes, start: int = 0) -> int:
    """Where `needle` lies in `text` at a token's border; -1 where it does not."""
    at = text.find(needle, start)
    while at >= 0 and at % ID_BYTES:
        at = text.find(needle, at + 1)
    return at


def _tokens(folder: Path, files: Files, name: str, offset: int) -> bytes:
    header = _header(folder, files, name, offset)
    return header.tokens if header else b""


def _header(folder: Path, files: Files, name: str, offset: int) -> Header | None:
    try:
        fd = files.open_read(folder / name)
    except OSError:
        return None
    try:
        return read_header(fd, offset)
    except BadRecord:
        return None
    finally:
        os.close(fd)


def _shrink(index: Index) -> None:
    """Write the database anew; readers in other processes finish within moments, so wait for them a while."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return index.shrink()
        except sqlite3.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
