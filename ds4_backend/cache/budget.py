"""How much may be written now: the size limit, the free-space floor, the daily cap, and no writing in circles.

It decides on numbers; it opens no file and removes nothing.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ds4_backend.cache.index import Index

GIB = 1 << 30
LARGEST_DEFAULT = 64 * GIB
DAILY_DEFAULT = 64 * GIB
FLOOR_DEFAULT = 4 * GIB
LEAST_SEGMENT, MOST_SEGMENT, TAIL_SEGMENT = 1 << 20, 32 << 20, 8 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes: of the whole store, written in one day, left free on the disk, and of a segment file of either kind."""

    max_bytes: int
    daily_bytes: int
    free_floor: int
    block_segment: int
    tail_segment: int


def limits(
    folder: Path, max_bytes: int | None, daily_bytes: int | None, free_floor: int | None, segment_bytes: int | None
) -> Limits:
    """Fill in what was left open: a tenth of the free disk but no more than 64 GiB, 64 GiB a day, 4 GiB left free.

    Raises OSError where the disk cannot be asked.
    """
    if max_bytes is None:
        max_bytes = min(shutil.disk_usage(folder).free // 10, LARGEST_DEFAULT)
    size = segment_bytes or min(max(max_bytes // 64, LEAST_SEGMENT), MOST_SEGMENT)
    daily_bytes = DAILY_DEFAULT if daily_bytes is None else daily_bytes
    free_floor = FLOOR_DEFAULT if free_floor is None else free_floor
    return Limits(max_bytes, daily_bytes, free_floor, size, min(size, TAIL_SEGMENT))


def day_of(now: float) -> str:
    """The day that counters are kept by, in local time."""
    return time.strftime("%Y-%m-%d", time.localtime(now))


class Budget:
    """Today's room, asked anew for every batch, because other processes write too."""

    def __init__(self, folder: Path, bounds: Limits) -> None:
        self._folder, self.limits = folder, bounds

    def over(self, index: Index, need: int) -> int:
        """By how many bytes `need` more would exceed what the store may take. A full disk shrinks the store."""
        used = index.disk_bytes()
        spare = shutil.disk_usage(self._folder).free - self.limits.free_floor
        return used + need - min(self.limits.max_bytes, max(0, used + spare))

    def left_today(self, index: Index, now: float) -> int:
        """Bytes that may still be written today."""
        return self.limits.daily_bytes - int(index.counter("written", day_of(now)))

    def left_to_rewrite(self, index: Index, now: float) -> int:
        """Bytes of records evicted before that may be written again today: as many as were new, and a quarter of the
        store. With a store far too small, this keeps writes linear in the tokens that are new."""
        day = day_of(now)
        written, again = index.counter("written", day), index.counter("rewritten", day)
        return int(written - 2 * again) + self.limits.max_bytes // 4
