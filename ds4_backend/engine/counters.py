"""What one engine has done since it was loaded, in requests and tokens. Knows the last events of answers, no more."""

from __future__ import annotations

import threading
from typing import Any

from ds4_backend.types import End, Failed


class Counters:
    """Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answered = self._failed = 0
        self._input = self._cached = self._cached_disk = self._output = 0

    def count(self, last: End | Failed) -> None:
        """An answer has ended with `last`."""
        with self._lock:
            if isinstance(last, Failed):
                self._failed += 1
                return
            self._answered += 1
            self._input += last.usage.input
            self._cached += last.usage.cached
            self._cached_disk += last.usage.cached_disk
            self._output += last.usage.output

    def report(self) -> dict[str, Any]:
        """For people and for JSON."""
        with self._lock:
            return {
                "answered": self._answered,
                "failed": self._failed,
                "input_tokens": self._input,
                "cached_tokens": self._cached,
                "cached_disk_tokens": self._cached_disk,
                "output_tokens": self._output,
            }
