"""The queue between the inference thread and the disk: bounded in bytes, never waited for.

Where it is full, waiting tails give way first, the least wanted before the others; then the new job is refused. It
knows jobs, not what they do.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from ds4_backend.cache.jobs import Errand, Job, TailJob
from ds4_backend.cache.records import Use

BATCH_BYTES = 64 << 20
LINGER_SECONDS = 0.05
"""The writer waits this long for company, so that a turn's blocks share one sync."""


class Backlog:
    """Hands batches of jobs to `work`, on a thread of its own, in order; `work` must not raise. What had to give way
    goes to `forget`."""

    def __init__(self, work: Callable[[list[Job]], None], forget: Callable[[Job], None], max_bytes: int) -> None:
        self._work, self._forget, self._max_bytes = work, forget, max_bytes
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._waiting = self._taken = self._busy = 0  # bytes queued or being written; bytes being written; batches
        self._hurried = self._closed = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="ds4-cache-writer", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> bool:
        """Queue a job; False where there is no room, or the queue is closed."""
        with self._changed:
            if self._closed:
                return False
            fits = self._waiting < 2 * self._max_bytes if isinstance(job, Errand) else self._make_room(job)
            if not fits:
                self.dropped += 1
                return False
            self._jobs.append(job)
            self._waiting += job.nbytes
            if len(self._jobs) == 1 or self._waiting >= BATCH_BYTES:
                self._changed.notify_all()
            return True

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all queued jobs are done; False where that takes longer than `timeout` seconds."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._jobs and not self._busy, timeout)

    def clear(self) -> None:
        """Forget all that waits."""
        with self._changed:
            self._jobs.clear()
            self._waiting = self._taken
            self._changed.notify_all()

    def close(self, timeout: float | None = None) -> bool:
        """Finish what is queued and stop; False where that takes longer than `timeout` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def full(self) -> bool:
        """Whether half of the room is taken: time to save blocks only."""
        return self._waiting * 2 > self._max_bytes

    def _make_room(self, job: Job) -> bool:
        need = self._waiting + job.nbytes - self._max_bytes
        if need <= 0:
            return True
        most = job.use if isinstance(job, TailJob) else Use.PREFIX + 1  # a tail displaces only lesser ones
        tails = [waiting for waiting in self._jobs if isinstance(waiting, TailJob) and waiting.use < most]
        if sum(tail.nbytes for tail in tails) < need:
            return False
        for tail in sorted(tails, key=lambda tail: tail.use):
            if need > 0:
                self._jobs.remove(tail)
                self._waiting -= tail.nbytes
                self._forget(tail)
                self.dropped += 1
                need -= tail.nbytes
        return True

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            try:
                self._work(batch)
            finally:
                batch.clear()  # payloads are large
                with self._changed:
                    self._busy -= 1
                    self._waiting -= self._taken
                    self._taken = 0
                    self._changed.notify_all()

    def _next(self) -> list[Job] | None:
        """The next batch, empty where all was cleared meanwhile; None once closed and done."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            until = time.monotonic() + LINGER_SECONDS
            while not (self._closed or self._hurried) and (left := until - time.monotonic()) > 0:
                if self._waiting >= BATCH_BYTES:
                    break
                self._changed.wait(left)
            batch: list[Job] = []
            while self._jobs and self._taken < BATCH_BYTES:
                batch.append(self._jobs.popleft())
                self._taken += batch[-1].nbytes
            self._hurried = self._hurried and bool(self._jobs)
            if self._closed and not batch:
                return None
            self._busy += 1
            return batch
