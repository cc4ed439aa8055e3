"""Which records of a batch are worth writing: not stored yet, reachable from their root, far enough from the last tail.

It reads the index and decides; it writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ds4_backend.cache.budget import Budget
from ds4_backend.cache.index import Index, Tail
from ds4_backend.cache.jobs import GAPS, BlockJob, TailJob
from ds4_backend.cache.keys import BLOCK_TOKENS, root_key
from ds4_backend.cache.records import LEAST_HEADER


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """A record to write. `gain` is a tail's distance in tokens from the next lower one; `again` says that it was
    evicted before."""

    job: BlockJob | TailJob
    gain: int
    again: bool

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return LEAST_HEADER + len(self.job.tokens) + len(self.job.payload)


def tail_name(tail: Tail) -> tuple[bytes, bytes, int]:
    """All that a lookup finds a tail by: a row that is damaged in one of them does not count as stored."""
    return tail.chain, tail.key, tail.position


def choose(index: Index, jobs: Sequence[BlockJob | TailJob], budget: Budget, now: float) -> list[Wanted]:
    """The jobs that are worth writing, blocks first."""
    keys = [job.key for job in jobs]
    stored = index.stored_blocks([*keys, *(job.parent for job in jobs)])
    chains = [job.parent for job in jobs if isinstance(job, TailJob)]
    done: set[object] = {*stored, *(tail_name(tail) for tail in index.tails(chains))}
    ghosts = {row[0] for row in index.among("SELECT id FROM ghosts WHERE id IN (...)", keys)}
    left = budget.left_to_rewrite(index, now) if ghosts else 0
    chosen: list[Wanted] = []
    for job in sorted(jobs, key=lambda job: (job.kind, job.position)):
        key = job.key
        name = (job.parent, key, job.position) if isinstance(job, TailJob) else key
        if name in done or not _is_reachable(job, stored):
            continue
        gain = _gain(index, job, chosen) if isinstance(job, TailJob) else BLOCK_TOKENS
        one = Wanted(job, gain, key in ghosts)
        if isinstance(job, TailJob) and gain < GAPS[job.use]:
            continue
        if one.again:
            if one.nbytes > left:
                continue
            left -= one.nbytes
        chosen.append(one)
        done.add(name)
        if isinstance(job, BlockJob):
            stored.add(key)
    return chosen


def _is_reachable(job: BlockJob | TailJob, stored: set[bytes]) -> bool:
    begins = job.position < BLOCK_TOKENS * (2 if isinstance(job, BlockJob) else 1)
    return job.parent == root_key(job.fingerprint) if begins else job.parent in stored


def _gain(index: Index, job: TailJob, chosen: list[Wanted]) -> int:
    lower = [t.position for t in index.tails(job.path) if job.passes(t.chain, t.key, t.position)]
    lower += [
        other.position
        for other in (one.job for one in chosen if isinstance(one.job, TailJob))
        if job.passes(other.parent, other.key, other.position)
    ]
    return job.position - max(lower, default=0)
