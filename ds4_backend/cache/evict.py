"""What to give up, and in which order: tails nobody misses, then the ends of the conversations worth least.

Only leaves are ever removed: a tail no block follows, then the blocks up to the next tail or branch below it. So a
prefix shared by several conversations outlives all of them. It changes the index only; its caller frees the files.
"""

from __future__ import annotations

import heapq

from ds4_backend.cache.index import Index, Tail
from ds4_backend.cache.jobs import TailJob
from ds4_backend.cache.keys import BLOCK_TOKENS
from ds4_backend.cache.records import Kind, Use

HALF_LIFE = 6 * 3600.0
"""Seconds after which a use counts half."""
GRACE = 600.0
"""Blocks younger than this many seconds may still get a tail."""
PREFIX_WORTH = 64.0
"""How much more the end of a system prompt is worth than another tail of its age and size."""
KEEP_NEWEST = 6
"""Tails kept at the end of each conversation: three turns of two."""
KEEP_EVERY = 4096
"""Tokens between the tails kept further back."""
GHOSTS_KEPT = 7 * 86400.0


class Eviction:
    """One round of it, within one transaction of the index."""

    def __init__(self, index: Index, now: float) -> None:
        self._index, self._now = index, now
        self._leased = {row[0] for row in index.rows("SELECT id FROM leases WHERE until > ?", (now,))}
        self._block_bytes = index.rows("SELECT COALESCE(AVG(bytes), 0) FROM blocks")[0][0]
        self.freed = 0

    def free(self, need: int) -> int:
        """Forget records of at least `need` bytes if there are so many; how many bytes it was."""
        self._free_useless(need)
        heap = [(self._worth(tail), tail.key, tail) for tail in self._index.leaf_tails()]
        heapq.heapify(heap)
        while heap and self.freed < need:
            _, _, tail = heapq.heappop(heap)
            if tail.key in self._leased or tail.chain in self._leased:
                continue
            self.drop_tail(tail)
            for next_tail in self._exposed(self.trim(tail.chain), tail):
                heapq.heappush(heap, (self._worth(next_tail), next_tail.key, next_tail))
        return self.freed

    def drop_tail(self, tail: Tail) -> None:
        """Forget one tail."""
        self._index.drop(Kind.TAIL, [tail.key])
        self._remember(tail.key)
        self.freed += tail.place.nbytes

    def trim(self, key: bytes) -> bytes:
        """Forget block `key` and those before it that nothing needs; the name of the first one that stays."""
        while True:
            found = self._index.rows("SELECT parent, bytes FROM blocks WHERE id = ?", (key,))
            if not found or key in self._leased or self._is_needed(key):
                return key
            parent, nbytes = found[0]
            self._index.drop(Kind.BLOCK, [key])
            self._remember(key)
            self.freed += nbytes
            key = parent

    def _free_useless(self, need: int) -> None:
        sql = """SELECT id FROM blocks b WHERE created < ? AND NOT EXISTS (SELECT 1 FROM blocks c WHERE c.parent = b.id)
        AND NOT EXISTS (SELECT 1 FROM tails t WHERE t.chain = b.id) ORDER BY created"""
        for (key,) in self._index.rows(sql, (self._now - GRACE,)):
            if self.freed >= need:
                return
            self.trim(key)

    def _is_needed(self, key: bytes) -> bool:
        sql = "SELECT EXISTS (SELECT 1 FROM blocks WHERE parent = ?) OR EXISTS (SELECT 1 FROM tails WHERE chain = ?)"
        return bool(self._index.rows(sql, (key, key))[0][0])

    def _exposed(self, key: bytes, gone: Tail) -> list[Tail]:
        """Tails that became leaves. Whoever used the longer one used these too, at the same time."""
        if self._index.rows("SELECT 1 FROM blocks WHERE parent = ? LIMIT 1", (key,)):
            return []
        self._index.run("UPDATE tails SET used = MAX(used, ?) WHERE chain = ?", (gone.used, key))
        return [] if key == gone.chain else self._index.tails([key])

    def _worth(self, tail: Tail) -> float:
        """Tokens to compute again, times the odds of that, over the bytes they take."""
        reuse = (1 + tail.hits) * 2.0 ** (-max(0.0, self._now - tail.used) / HALF_LIFE)
        shared = PREFIX_WORTH if tail.use is Use.PREFIX else 1.0
        gain = max(tail.gain, 1)
        return shared * reuse * gain / (tail.place.nbytes + gain / BLOCK_TOKENS * self._block_bytes)

    def _remember(self, key: bytes) -> None:
        self._index.run("INSERT OR REPLACE INTO ghosts VALUES (?, ?)", (key, self._now))


def evict(index: Index, need: int, now: float) -> int:
    """Forget the least valuable records of `need` bytes; how many bytes it was."""
    with index.transaction():
        freed = Eviction(index, now).free(need)
        index.run("DELETE FROM ghosts WHERE at < ?", (now - GHOSTS_KEPT,))
        index.run("DELETE FROM leases WHERE until < ?", (now,))
    return freed


def thin(index: Index, job: TailJob, now: float) -> int:
    """Forget tails below `job`'s that no longer earn their place; how many.

    Kept are the newest few, the ends of system prompts, the last one at or before every branch, and further back one in
    every 4,096 tokens.
    """
    with index.transaction():
        leased = {row[0] for row in index.rows("SELECT id FROM leases WHERE until > ?", (now,))}
        tails = [t for t in index.tails(job.path) if job.passes(t.chain, t.key, t.position)]
        tails.sort(key=lambda tail: tail.position)
        kept = _kept(index, job, tails)
        gone = [t.key for t in tails if t.key not in kept and t.key not in leased]
        index.drop(Kind.TAIL, gone)
    return len(gone)


def _kept(index: Index, job: TailJob, tails: list[Tail]) -> set[bytes]:
    kept = {tail.key for tail in tails[-KEEP_NEWEST:]} | {tail.key for tail in tails if tail.use is Use.PREFIX}
    for branch in index.branches(job.path):
        at = job.path.index(branch) * BLOCK_TOKENS
        kept |= {tail.key for tail in [t for t in tails if t.position <= at][-1:]}
    last = 0
    for tail in tails:
        if tail.key in kept or tail.position - last >= KEEP_EVERY:
            kept.add(tail.key)
            last = tail.position
    return kept
