"""The one way into the store: append, sync, then commit. One thread at a time.

A batch is appended to segments that this process has locked, made durable, and entered in the index in one transaction.
If that fails the segments are cut back to where they were. It knows no queue and no policy of its own: room is made by
evict.py, numbers come from budget.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ds4_backend.cache.admission import Wanted, choose
from ds4_backend.cache.budget import Budget, day_of
from ds4_backend.cache.evict import thin
from ds4_backend.cache.files import Files, folder_lock
from ds4_backend.cache.health import Health
from ds4_backend.cache.index import Index, Place
from ds4_backend.cache.jobs import BlockJob, Errand, Job, TailJob
from ds4_backend.cache.keys import BLOCK_TOKENS, start_key
from ds4_backend.cache.records import Header, Kind, checksum
from ds4_backend.cache.segments import HEAD_BYTES, Segment
from ds4_backend.cache.tidy import make_room, reclaim

RecordJob = BlockJob | TailJob
_SLICE = 64 << 20


class Vanished(Exception):
    """A clean-up removed the segment under a batch; the batch goes into another one."""


@dataclass(frozen=True, slots=True)
class Appended:
    """A record in a segment, not committed yet. `moved_from` is set where it is a copy made by a clean-up."""

    key: bytes
    header: Header
    segment: Segment
    offset: int
    wanted: Wanted | None = None
    moved_from: Place | None = None


class Writer:
    """Writes batches of jobs and copies records for clean-ups. Errors of files and SQLite pass through."""

    def __init__(self, folder: Path, files: Files, budget: Budget, clock: Callable[[], float], health: Health) -> None:
        self.folder, self.files, self.clock = folder, files, clock
        self.budget, self._health = budget, health
        self._active: dict[Kind, Segment] = {}
        self._known: set[str] = set()  # segments with a row in the index

    def write(self, index: Index, jobs: Sequence[Job]) -> None:
        """Do all jobs. Records that are stored already, that lack their chain, or that find no room are passed over."""
        errands = [job for job in jobs if isinstance(job, Errand)]
        if errands:
            with index.transaction():
                for errand in errands:
                    errand.run(index)
        for part in self._slices([job for job in jobs if not isinstance(job, Errand)]):
            wanted = self._fit(index, choose(index, part, self.budget, self.clock()))
            if wanted:
                self._store(index, partial(self._append_all, index, wanted))
                self._thin(index, wanted)

    def copy(self, index: Index, records: Sequence[tuple[bytes, Header, memoryview, Place]]) -> None:
        """Copy records to another segment and let the index point there."""

        def append(marks: dict[Segment, int]) -> list[Appended]:
            return [
                Appended(key, header, *self._append(index, header, payload, marks), moved_from=place)
                for key, header, payload, place in records
            ]

        self._store(index, append)

    def seal(self) -> None:
        """Let go of the segments in use, so that a clean-up may remove them too."""
        for segment in self._active.values():
            if segment.end == HEAD_BYTES and segment.name not in self._known:  # nothing was ever committed in it
                with suppress(OSError):
                    self.files.unlink(segment.path)
            segment.close()
        self._active.clear()
        self._known.clear()

    def close(self) -> None:
        """Put what was written out of the device's own cache too, where the system offers that, and let go of it."""
        for segment in list(self._active.values())[:1]:  # it flushes the whole device
            segment.harden()
        self.seal()

    def owns(self, name: str) -> bool:
        """Whether this writer appends to that segment now."""
        return any(segment.name == name for segment in self._active.values())

    def _slices(self, jobs: list[RecordJob]) -> Iterable[list[RecordJob]]:
        """Batches small enough for the store's size, so that room is made step by step."""
        most = min(_SLICE, max(self.budget.limits.max_bytes // 8, 1))
        part: list[RecordJob] = []
        size = 0
        for job in jobs:
            if part and size + job.nbytes > most:
                yield part
                part, size = [], 0
            part.append(job)
            size += job.nbytes
        if part:
            yield part

    def _fit(self, index: Index, wanted: list[Wanted]) -> list[Wanted]:
        """What of it there is room for; tails give way before blocks."""
        for chosen in (wanted, [one for one in wanted if one.job.kind is Kind.BLOCK]):
            need = sum(one.nbytes for one in chosen)
            if not chosen:
                return []
            if need > self.budget.left_today(index, self.clock()):
                self._health.warn(
                    "daily cap",
                    f"the prompt cache has written {self.budget.limits.daily_bytes / 1e9:.3g} GB today, its daily cap; "
                    "it writes no more until tomorrow",
                )
                continue
            if make_room(self, index, need):
                # what was evicted may be what the batch stands on
                return choose(index, [one.job for one in chosen], self.budget, self.clock())
        return []

    def _store(self, index: Index, append: Callable[[dict[Segment, int]], list[Appended]]) -> None:
        for _ in range(2):
            try:
                return self._once(index, append)
            except Vanished:
                self.seal()
        raise OSError("segments were removed twice while they were being written")

    def _once(self, index: Index, append: Callable[[dict[Segment, int]], list[Appended]]) -> None:
        marks: dict[Segment, int] = {}  # the committed end of every segment that this batch touches
        try:
            done = append(marks)
            for segment in marks:
                segment.sync()
            self._commit(index, done, marks)
        except Exception:
            for segment, end in marks.items():
                with suppress(OSError):
                    segment.roll_back(end)
            raise
        finally:
            for segment in marks:
                if segment not in self._active.values():
                    segment.close()

    def _append_all(self, index: Index, wanted: list[Wanted], marks: dict[Segment, int]) -> list[Appended]:
        return [self._append_job(index, one, marks) for one in wanted]

    def _append_job(self, index: Index, wanted: Wanted, marks: dict[Segment, int]) -> Appended:
        job = wanted.job
        header = Header(
            job.kind, job.use, job.fingerprint, job.parent, job.tokens, job.position, len(job.payload),
            checksum(job.payload), int(self.clock()),
        )  # fmt: skip
        segment, offset = self._append(index, header, job.payload, marks)
        return Appended(job.key, header, segment, offset, wanted)

    def _append(
        self, index: Index, header: Header, payload: memoryview, marks: dict[Segment, int]
    ) -> tuple[Segment, int]:
        segment = self._segment(index, header.kind, header.nbytes, marks)
        marks.setdefault(segment, segment.end)
        return segment, segment.append(header, payload)

    def _segment(self, index: Index, kind: Kind, need: int, marks: dict[Segment, int]) -> Segment:
        limits = self.budget.limits
        limit = limits.block_segment if kind is Kind.BLOCK else limits.tail_segment
        segment = self._active.get(kind)
        if segment and segment.linked and (segment.end + need <= limit or segment.end == HEAD_BYTES):
            return segment
        if segment and segment not in marks:
            segment.close()
        self._active[kind] = self._adopt(index, kind, limit - need) or Segment.create(self.folder, kind, self.files)
        return self._active[kind]

    def _adopt(self, index: Index, kind: Kind, most: int) -> Segment | None:
        """A segment that another process left with room in it."""
        sql = "SELECT name FROM segments WHERE kind = ? AND bytes <= ? ORDER BY id DESC LIMIT 8"
        for (name,) in index.rows(sql, (int(kind), most)):
            with folder_lock(self.folder, self.files):
                segment = Segment.take_over(self.folder / name, self.files)
                end = index.segment_end(name) if segment and index.current else None
                if segment and end is not None and segment.cut(end):
                    self._known.add(name)
                    return segment
                if segment:
                    segment.close()
        return None

    def _commit(self, index: Index, done: list[Appended], marks: dict[Segment, int]) -> None:
        now = self.clock()
        with index.transaction():
            rows = {segment: self._row(index, segment) for segment in marks}
            for one in done:
                place = Place(rows[one.segment], one.segment.name, one.offset, one.header.nbytes, one.header.payload)
                if one.moved_from:
                    index.move(one.header.kind, one.key, one.moved_from, place)
                else:
                    self._enter(index, one, place, now)
            for segment, row in rows.items():
                index.grow_segment(row, segment.end)
            self._count(index, done, now)
        self._known |= {segment.name for segment in marks}

    def _row(self, index: Index, segment: Segment) -> int:
        if not segment.linked or (segment.name in self._known and index.segment_end(segment.name) is None):
            raise Vanished
        kind = Kind.BLOCK if segment.name.startswith("block") else Kind.TAIL
        return index.add_segment(segment.name, kind)

    def _enter(self, index: Index, one: Appended, place: Place, now: float) -> None:
        header = one.header
        if header.kind is Kind.BLOCK:
            start = start_key(header.tokens) if header.position == BLOCK_TOKENS else None
            index.add_block(one.key, header.parent, header.fingerprint, header.position, start, place, now)
        elif one.wanted:
            gain = one.wanted.gain
            index.add_tail(
                one.key, header.parent, header.fingerprint, header.position, header.use, gain, place, now
            )  # fmt: skip

    def _count(self, index: Index, done: list[Appended], now: float) -> None:
        written = sum(one.header.nbytes for one in done)
        again = sum(one.header.nbytes for one in done if one.wanted and one.wanted.again)
        moved = sum(one.header.nbytes for one in done if one.moved_from)
        index.count(day_of(now), written=written, rewritten=again, compacted=moved)

    def _thin(self, index: Index, wanted: list[Wanted]) -> None:
        tails = [one.job for one in wanted if isinstance(one.job, TailJob)]
        if sum(thin(index, job, self.clock()) for job in tails):
            reclaim(self, index, 1.0)
