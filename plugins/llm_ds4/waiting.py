"""What a person at a terminal sees while nothing comes yet: the model loading, the prompt being read.

One line on stderr, only where that is a terminal and only after two seconds; it is gone before the answer begins.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ds4_backend.types import Event, Progress

PATIENCE_SECONDS = 2.0
_CLEAR = "\r\x1b[K"


class Waiting:
    """The line, if there is one. `loading` is called with (layers loaded, layers)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = time.monotonic()
        self._shown = False

    def loading(self, done: int, total: int) -> None:
        """The model is being loaded."""
        self._show(f"loading: layer {done} of {total}")

    def heard(self, event: Event) -> None:
        """An event has come: progress is shown, anything else ends the waiting."""
        if not isinstance(event, Progress):
            self.clear()
        elif event.phase == "queued":
            self._show("waiting for other requests")
        elif event.phase == "prefill":
            cached = f", {event.cached:,} of them from the cache" if event.cached else ""
            self._show(f"reading: {event.done:,} of {event.total:,} tokens{cached}")

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            self._shown = False
            self._stream.write(_CLEAR)
            self._stream.flush()

    def _show(self, text: str) -> None:
        if self._stream.isatty() and time.monotonic() - self._begun > PATIENCE_SECONDS:
            self._shown = True
            self._stream.write(_CLEAR + text)
            self._stream.flush()


@contextmanager
def waiting() -> Iterator[Waiting]:
    """A `Waiting` on stderr, whose line is gone at the end, whatever that is."""
    wait = Waiting(sys.stderr)
    try:
        yield wait
    finally:
        wait.clear()
