"""Whether the store works now. After a failure it is left alone for a while, and the user is told once."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable

from ds4_backend.cache.schema import Damaged

log = logging.getLogger(__name__)

FAILURES = (OSError, sqlite3.Error, Damaged, UnicodeDecodeError, MemoryError)
"""What a disk, a database or a hostile file can bring about."""
PAUSE_SECONDS = 60.0


class Health:
    """What went wrong, and until when to keep away. `trouble` is None while all is well."""

    def __init__(self, about: str, clock: Callable[[], float]) -> None:
        self._about, self._clock = about, clock
        self._warned: set[str] = set()
        self._reads_at = self._writes_at = 0.0
        self.trouble: str | None = None

    @property
    def readable(self) -> bool:
        return self._clock() >= self._reads_at

    @property
    def writable(self) -> bool:
        return self.readable and self._clock() >= self._writes_at

    def read_failed(self, error: Exception) -> None:
        """Leave the store alone, reading and writing, for a minute."""
        self._reads_at = self._clock() + PAUSE_SECONDS
        self._failed("read", error)

    def write_failed(self, error: Exception) -> None:
        """Write nothing for a minute."""
        self._writes_at = self._clock() + PAUSE_SECONDS
        self._failed("written", error)

    def cannot_open(self, error: Exception) -> None:
        """It is off for good."""
        self.end()
        self._failed("opened", error)

    def end(self) -> None:
        """Neither read nor write any more."""
        self._reads_at = float("inf")

    def warn(self, about: str, message: str) -> None:
        """Say something once."""
        if about not in self._warned:
            self._warned.add(about)
            log.warning("%s", message)

    def _failed(self, what: str, error: Exception) -> None:
        self.trouble = f"{type(error).__name__}: {error}"
        log.debug("the prompt cache could not be %s", what, exc_info=error)
        self.warn("failure", f"{self._about} cannot be {what} ({self.trouble}); going on without it")
