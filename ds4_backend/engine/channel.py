"""The events of one answer on their way from the model's thread to whoever reads them, on a thread or an event loop.

It knows nothing of models. The writer never waits; it looks at `full` and does something else until the reader has
caught up.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ds4_backend.types import Event

BOUND = 256
"""Events that may wait for their reader before the writer is asked to pause."""


class Channel:
    """One writer, one reader. `on_room` is called, on the reader's thread, when a full channel has room again."""

    def __init__(self, on_room: Callable[[], None] = lambda: None) -> None:
        self._events: deque[Event] = deque()
        self._arrived = threading.Condition()
        self._on_room = on_room
        self._alert: Callable[[], object] = lambda: None

    @property
    def full(self) -> bool:
        return len(self._events) >= BOUND

    def put(self, event: Event) -> None:
        """Hand over one event."""
        with self._arrived:
            self._events.append(event)
            self._arrived.notify()
            self._alert()

    def get(self, seconds: float) -> Event | None:
        """The next event, or None if none comes within `seconds`."""
        with self._arrived:
            if not self._events:
                self._arrived.wait(seconds)
        return self._take()

    async def aget(self, seconds: float) -> Event | None:
        """The same for an event loop."""
        if not self._events:
            await self._wait(seconds)
        return self._take()

    async def _wait(self, seconds: float) -> None:
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        with self._arrived:
            if self._events:
                return
            self._alert = lambda: _tell(loop, came)
        try:
            async with asyncio.timeout(seconds):  # not wait_for, which in Python 3.11 may swallow a cancellation
                await came.wait()
        except TimeoutError:
            return
        finally:
            with self._arrived:
                self._alert = lambda: None

    def _take(self) -> Event | None:
        with self._arrived:  # else the writer may fill it between a look and the taking, and is never told of room
            if not self._events:
                return None
            event = self._events.popleft()
            room_again = len(self._events) == BOUND - 1
        if room_again:
            self._on_room()
        return event


def _tell(loop: asyncio.AbstractEventLoop, came: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop was closed: nobody listens any more
        loop.call_soon_threadsafe(came.set)
