"""One answer as a front end wants it: asked for again while too many wait, given up when it takes too long.

It knows engines and no host framework; where an engine comes from is the caller's business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, closing

from ds4_backend.engine.engine import Engine, Events
from ds4_backend.errors import Busy, TookTooLong
from ds4_backend.types import Event, Failed, Progress, Request


def ask(opened: Callable[[], Engine], request: Request, *, timeout: float | None = None, retries: int = 0) -> Events:
    """The events of one answer of the engine that `opened` gives. Closing it cancels the work.

    A busy engine is asked again `retries` times, after 1, 2, 4, ... seconds, as long as nothing was heard but progress.
    Raises the error of a `Failed`, and TookTooLong where the answer is not complete after `timeout` seconds, opening
    the engine included.
    """
    patience = _Patience(timeout, retries)
    engine = opened()
    while True:
        try:
            with closing(engine.chat(request)) as events:
                for event in events:
                    yield patience.heard(event)
            return
        except Busy as error:
            seconds = patience.pause(error)
        time.sleep(seconds)


async def aask(
    opened: Callable[[], Engine], request: Request, *, timeout: float | None = None, retries: int = 0
) -> AsyncGenerator[Event, None]:
    """`ask` for an event loop, which stays free while the engine opens and works. Cancelling the task that reads it
    cancels the work within one prefill chunk or one token."""
    patience = _Patience(timeout, retries)
    engine = await asyncio.to_thread(opened)
    while True:
        try:
            async with aclosing(engine.achat(request)) as events:
                async for event in events:
                    yield patience.heard(event)
            return
        except Busy as error:
            seconds = patience.pause(error)
        await asyncio.sleep(seconds)


class _Patience:
    """When to ask again, and when to give up."""

    def __init__(self, timeout: float | None, retries: int) -> None:
        self._timeout, self._began = timeout, time.monotonic()
        self._pauses = [2.0**n for n in reversed(range(retries))]

    def heard(self, event: Event) -> Event:
        """`event`, unless it is the end of our patience. Events come on a clock, so this is called often enough."""
        if isinstance(event, Failed):
            raise event.error
        if self._timeout is not None and time.monotonic() - self._began > self._timeout:
            raise TookTooLong(f"there was no complete answer after {self._timeout:g} seconds: raise `timeout`")
        if self._pauses and not isinstance(event, Progress):
            self._pauses.clear()  # asked again, an engine would say it again
        return event

    def pause(self, error: Busy) -> float:
        """Seconds to wait before the next try. Raises `error` where the last one was made."""
        if not self._pauses:
            raise error
        return self._pauses.pop()
