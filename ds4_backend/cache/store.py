"""The disk cache as the engine sees it: look up, load, put, and never fail a request.

What a request calls returns with an answer and raises nothing of the disk's: where that is full, read-only, locked or
damaged, the store says so once and is left alone for a minute. What a person asks for is in maintenance.py.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ds4_backend.cache import load as loading
from ds4_backend.cache import lookup as lookups
from ds4_backend.cache import report, turns
from ds4_backend.cache.backlog import Backlog
from ds4_backend.cache.budget import Budget, day_of, limits
from ds4_backend.cache.files import Files
from ds4_backend.cache.handle import Handle
from ds4_backend.cache.health import FAILURES, Health
from ds4_backend.cache.index import Index
from ds4_backend.cache.jobs import GAPS, BlockJob, Errand, Job, TailJob
from ds4_backend.cache.keys import BLOCK_TOKENS, Chain
from ds4_backend.cache.load import Loaded
from ds4_backend.cache.lookup import Hit
from ds4_backend.cache.records import MAX_PAYLOAD, Use
from ds4_backend.cache.turns import Turn
from ds4_backend.cache.writer import Writer
from ds4_backend.errors import EngineError

T = TypeVar("T")

LEAST_TOKENS = 512
"""Shorter conversations are not worth writing."""
QUEUE_BYTES = 512 << 20
LEASE_SECONDS = 900.0
"""How long what a request resumed from is safe from eviction."""
_TRIES = 8


class Store:
    """One process's way to a cache folder that others may use at the same time. Safe to use from several threads."""

    def __init__(self, folder: Path, files: Files, clock: Callable[[], float]) -> None:
        self.folder, self._files, self._clock = folder, files, clock
        self.health = Health(f"the prompt cache in {folder}", clock)
        self._reads, self._writes = Handle(folder, files), Handle(folder, files)
        self._lock = threading.RLock()  # one writer in this process
        self._queued: set[bytes] = set()
        self._turns: list[tuple[bytes, Turn]] = []  # queued, not in the index yet
        self._writer: Writer | None = None
        self._backlog: Backlog | None = None
        self._held: list[Job] = []

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        daily_bytes: int | None = None,
        free_floor: int | None = None,
        segment_bytes: int | None = None,
        queue_bytes: int = QUEUE_BYTES,
        background: bool = True,
        files: Files | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Store:
        """The store in `folder`, which is made where it is missing. Never raises: a store that cannot be opened is off,
        and `trouble` says why.

        Sizes in bytes; what is left out is chosen by `budget.limits`. `background=False` writes on `flush` and `close`
        only, on the caller's thread.
        """
        store = cls(Path(folder).absolute(), files or Files(), clock)
        try:
            store._files.make_folder(store.folder)
            bounds = limits(store.folder, max_bytes, daily_bytes, free_floor, segment_bytes)
            store._writer = Writer(store.folder, store._files, Budget(store.folder, bounds), clock, store.health)
            store._reads.use(lambda index: index.disk_bytes())
            if background:
                store._backlog = Backlog(store._work, store._give_up, queue_bytes)
        except FAILURES as error:
            store.health.cannot_open(error)
        return store

    @property
    def trouble(self) -> str | None:
        """What went wrong last, in words; None while all is well."""
        return self.health.trouble

    # Reading -----------------------------------------------------------------------------------------------------

    def lookup(self, chain: Chain, limit: int | None = None) -> Hit:
        """The longest stored state of `chain`, at most `limit` tokens; all but the last one where that is left out,
        because that one must run to give logits. What it found is safe from eviction for a while."""
        off = Hit(0, 0, chain.length, "off")
        limit = chain.length - 1 if limit is None else limit
        hit = self._read(off, lambda index: lookups.find(index, self.folder, self._files, chain, limit))
        if hit.tail:
            self._run_later(partial(_lease, hit=hit, until=self._clock() + LEASE_SECONDS))
        return hit

    def read(self, hit: Hit) -> Loaded | None:
        """Load what `lookup` found; None where it is no longer there, or damaged: then it counts as stored no more."""
        try:
            return loading.load(self.folder, self._files, hit) if hit and self.health.readable else None
        except loading.Stale as stale:
            where = next(record.place for record in (*hit.blocks, hit.tail) if record and record.key == stale.key)
            aside = partial(report.set_aside, kind=stale.kind, key=stale.key, place=where, now=self._clock())
            self._read(False, aside)
        except FAILURES as error:
            self.health.read_failed(error)
        return None

    def resume(self, chain: Chain, limit: int | None = None) -> tuple[Hit, Loaded | None]:
        """Look up and load; where a record turns out bad, what is left without it. The hit's reason then says
        `checksum`."""
        failed = False
        for _ in range(_TRIES):
            hit = self.lookup(chain, limit)
            loaded = self.read(hit)
            if loaded or not hit:
                return (replace(hit, reason="checksum") if failed else hit), loaded
            failed = True
            self.release(hit)
        return Hit(0, 0, chain.length, "checksum"), None

    def account(self, hit: Hit, *, loaded: Loaded | None = None) -> None:
        """Count one request: what it asked for, and what it got from here. See also `saved`."""
        now, got = self._clock(), hit.length if loaded else 0
        amounts = {
            "requests": 1, "asked": hit.wanted, "hit": got, "read": loaded.nbytes if loaded else 0,
        }  # fmt: skip

        def run(index: Index) -> None:
            index.count(day_of(now), **amounts)
            if hit.tail and loaded:
                sql = "UPDATE tails SET used = MAX(used, ?), hits = hits + 1 WHERE id = ?"
                index.run(sql, (now, hit.tail.key))

        self._run_later(run)

    def saved(self, seconds: float) -> None:
        """Count prefill that a resume spared."""
        now = self._clock()
        self._run_later(lambda index: index.count(day_of(now), saved=seconds))

    def release(self, hit: Hit) -> None:
        """The request is over: what it resumed from may be evicted again."""
        if hit.tail:
            self._run_later(lambda index: index.run("DELETE FROM leases WHERE holder = ?", (hit.lease,)))

    # Writing -----------------------------------------------------------------------------------------------------

    def missing(self, chain: Chain, stop: int | None = None) -> tuple[int, ...]:
        """Which full blocks of `chain`, counted from 0 and below `stop`, are worth putting: not stored, not queued."""
        keys = chain.keys[1:] if stop is None else chain.keys[1 : stop + 1]
        if not self._admits(chain):
            return ()
        known = self._read(set(keys), lambda index: index.stored_blocks(keys)) | self._queued
        return tuple(i for i, key in enumerate(keys) if key not in known)

    def wants_tail(self, chain: Chain, length: int, use: Use = Use.TURN) -> bool:
        """Whether a tail after `length` tokens would be stored; ask before exporting one."""
        job = _tail_job(chain, length, memoryview(b""), use)
        if not self._admits(chain) or job.key in self._queued or (self._backlog and self._backlog.full):
            return False

        def far_enough(index: Index) -> bool:
            lower = [t.position for t in index.tails(job.path) if job.passes(t.chain, t.key, t.position)]
            return length - max(lower, default=0) >= GAPS[use]

        return self._read(False, far_enough)

    def put_block(self, chain: Chain, index: int, payload: Any) -> bool:
        """Queue full block `index` of `chain`, counted from 0, whose rows are `payload`: contiguous bytes that nobody
        changes afterwards. False where it is not taken. Never waits for the disk."""
        if not 0 <= index < len(chain.keys) - 1:
            raise IndexError(f"block {index} of a chain of {len(chain.keys) - 1} full blocks")
        job = BlockJob(
            chain.keys[index + 1], chain.keys[index], chain.fingerprint, chain.block_tokens(index),
            (index + 1) * BLOCK_TOKENS, _bytes(payload),
        )  # fmt: skip
        return self._put(chain, job)

    def put_tail(self, chain: Chain, length: int, payload: Any, use: Use = Use.TURN) -> bool:
        """Queue what a resume after `length` tokens needs beside the full blocks. As `put_block`."""
        if not 0 < length <= chain.length:
            raise IndexError(f"a tail after {length} tokens of a chain of {chain.length}")
        return self._put(chain, _tail_job(chain, length, _bytes(payload), use))

    def put_turn(self, fingerprint: bytes, turn: Turn) -> bool:
        """Remember an assistant turn's ids. It is found at once in this process, and by others when it is written."""
        if not turn.admissible or not self.health.writable:
            return False
        entry = (fingerprint, turn)
        self._turns.append(entry)

        def run(index: Index) -> None:
            turns.put(index, fingerprint, turn, self._clock())

        def over() -> None:
            with suppress(ValueError):
                self._turns.remove(entry)

        taken = self._enqueue(Errand(run, 4 * len(turn.ids) + len(turn.note), over))
        if not taken:
            over()
        return taken

    def turn_by_call(self, fingerprint: bytes, call_id: str) -> Turn | None:
        """The turn that made the call of this id."""
        for owner, turn in reversed(self._turns):
            if owner == fingerprint and call_id in turn.calls:
                return turn
        return self._used(self._read(None, lambda index: turns.by_call(index, fingerprint, call_id)))

    def turn_by_content(self, fingerprint: bytes, prefix: bytes, visible: bytes) -> Turn | None:
        """The turn after `prefix` (`PrefixHash.key`) that looked like `visible` (`visible_key`)."""
        for owner, turn in reversed(self._turns):
            if (owner, turn.prefix, turn.visible) == (fingerprint, prefix, visible):
                return turn
        return self._used(self._read(None, lambda index: turns.by_content(index, fingerprint, prefix, visible)))

    def _used(self, turn: Turn | None) -> Turn | None:
        if turn is not None:
            self._run_later(partial(turns.touch, turn=turn, now=self._clock()))
        return turn

    def register(self, fingerprint: bytes, label: str) -> None:
        """Give a fingerprint the name that `ls` shows."""
        now = self._clock()
        sql = "INSERT OR REPLACE INTO models VALUES (?, ?, ?)"
        self._run_later(lambda index: index.run(sql, (fingerprint, label[:200], now)))

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was put is written; False where that takes longer than `timeout` seconds."""
        if self._backlog:
            return self._backlog.flush(timeout)
        with self._lock:
            held, self._held = self._held, []
            self._work(held)
        return True

    def close(self, timeout: float | None = 30.0) -> None:
        """Write what is queued and let go of the folder. May be called again."""
        if self._backlog:
            self._backlog.close(timeout)
        elif self._writer:
            self.flush()
        try:
            with self._lock:
                if self._writer:
                    self._writer.close()
                self._writes.close()
            self._reads.close()
        except FAILURES as error:  # what was committed is on the disk; whoever closes can do nothing about the rest
            self.health.write_failed(error)
        self.health.end()

    # ---------------------------------------------------------------------------------------------------------------

    def ask(self, work: Callable[[Writer, Index], T]) -> T:
        """Run what a person asked for, alone among this process's writers. Raises EngineError where it fails."""
        writer = self._writer
        if writer is None:
            raise EngineError(f"the prompt cache in {self.folder} cannot be used: {self.trouble}")
        try:
            with self._lock:
                return self._writes.use(lambda index: work(writer, index))
        except FAILURES as error:
            text = f"the prompt cache in {self.folder}: {error}; it may be half done, run it again"
            raise EngineError(text) from error

    def forget_queued(self) -> None:
        """Drop all that was put and is not written yet."""
        if self._backlog:
            self._backlog.clear()
        for waiting in (self._held, self._queued, self._turns):
            waiting.clear()

    # ---------------------------------------------------------------------------------------------------------------

    def _admits(self, chain: Chain) -> bool:
        return chain.length >= LEAST_TOKENS and self.health.writable

    def _put(self, chain: Chain, job: BlockJob | TailJob) -> bool:
        if not self._admits(chain) or len(job.payload) > MAX_PAYLOAD:
            return False
        if job.key in self._queued:
            return True
        self._queued.add(job.key)
        if self._enqueue(job):
            return True
        self._queued.discard(job.key)
        return False

    def _run_later(self, run: Callable[[Index], object]) -> bool:
        return self.health.writable and self._enqueue(Errand(run))

    def _enqueue(self, job: Job) -> bool:
        if self._backlog:
            return self._backlog.put(job)
        self._held.append(job)
        return True

    def _work(self, jobs: list[Job]) -> None:
        """Write one batch; on the writer's thread."""
        writer = self._writer
        try:
            if writer and jobs and self.health.writable:
                with self._lock:
                    self._writes.use(lambda index: writer.write(index, jobs))
        except Exception as error:  # whatever it is, a request must not notice
            self.health.write_failed(error)
        finally:
            for job in jobs:
                self._give_up(job)

    def _give_up(self, job: Job) -> None:
        """It is no longer queued, written or not."""
        if isinstance(job, Errand):
            job.over()
        else:
            self._queued.discard(job.key)

    def _read(self, default: T, work: Callable[[Index], T]) -> T:
        if not self.health.readable:
            return default
        try:
            return self._reads.use(work)
        except FAILURES as error:
            self.health.read_failed(error)
            return default


def _tail_job(chain: Chain, length: int, payload: memoryview, use: Use) -> TailJob:
    path = tuple(chain.keys[: length // BLOCK_TOKENS + 1])
    return TailJob(path, chain.packed(0, length), chain.fingerprint, length, payload, use)


def _bytes(payload: Any) -> memoryview:
    return memoryview(payload).cast("B")


def _lease(index: Index, *, hit: Hit, until: float) -> None:
    if hit.tail:
        for key in (hit.tail.key, hit.tail.chain):
            index.run("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (key, hit.lease, until))
