"""What the host does for a caller: load, chat, count, status, stop; each answer as lines of JSON.

It knows engines and the wire's forms; it knows no socket, and not who may ask for what.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from ds4_backend import __version__, catalog
from ds4_backend.engine.engine import Engine
from ds4_backend.engine.running import offered
from ds4_backend.errors import DS4Error, HostError
from ds4_backend.host.residents import Resident, Residents
from ds4_backend.host.stream import line, with_beats
from ds4_backend.host.wire import PROTOCOL, TAG, error_to, event_to
from ds4_backend.types import End, Event, Failed, Request

log = logging.getLogger(__name__)
BEAT_SECONDS = 1.0
"""A caller hears from the host at least this often."""
STOPPED = "the host was stopped before the answer was complete. Ask again: the next request starts a new host"
Lines = AsyncGenerator[bytes, None]
Wrap = Callable[[Engine], Engine]


def resolved(model: str) -> str:
    """The absolute path of `model`'s file, a name from the catalogue or a path. Raises ModelError."""
    return model if offered(model) else str(catalog.resolve(model).resolve())


class Service:
    """One host's work. `about` is added to its status; `wrap` is put around every engine that answers (a trace)."""

    def __init__(self, residents: Residents, about: dict[str, Any] | None = None, wrap: Wrap = lambda one: one) -> None:
        self.residents = residents
        self.answering: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()
        self.grace = 0.0
        self._about, self._wrap = about or {}, wrap
        self._started = time.monotonic()
        self._counts = {"answered": 0, "failed": 0, "cancelled": 0}

    def stop(self, grace: float) -> None:
        """Take no more requests, and end those in progress after `grace` seconds. A second call cuts the grace."""
        self.grace = min(self.grace, grace) if self.stopping.is_set() else grace
        self.stopping.set()

    async def load(self, model: str) -> Lines:
        """`Loading` lines until `model` is loaded, then `Loaded`."""
        async with aclosing(self._using(model, None, _loaded)) as lines:
            async for one in lines:
                yield one

    async def count_tokens(self, model: str, request: Request) -> Lines:
        """`Loading` lines, then `Counted` with the prompt's tokens."""

        async def count(engine: Engine) -> Lines:
            tokens = await asyncio.to_thread(engine.count_tokens, request)
            yield line({TAG: "Counted", "tokens": tokens})

        async with aclosing(self._using(model, request.keep_alive, count)) as lines:
            async for one in lines:
                yield one

    async def chat(self, model: str, request: Request) -> Lines:
        """`Loading` lines, then the events of the answer. Closing it cancels the work."""
        ended = "cancelled"

        async def answer(engine: Engine) -> Lines:
            nonlocal ended
            async with aclosing(self._wrap(engine).achat(request)) as events:
                async for event in events:
                    ended = _ended(event) or ended
                    yield line(event_to(event))

        try:
            keep = self.residents.keep_alive if request.keep_alive is None else request.keep_alive
            async with aclosing(self._using(model, keep, answer)) as lines:
                async for one in lines:
                    yield one
            ended = "failed" if ended == "cancelled" else ended
        finally:
            self._counts[ended] += 1

    async def _using(self, model: str, keep_alive: float | None, work: Callable[[Engine], Lines]) -> Lines:
        """The lines of `work` with the engine of `model`; an error of either becomes the line `Raised`. Afterwards the
        model stays for `keep_alive` seconds, or for as long as it would have stayed otherwise."""
        resident = self.residents.enter(model)
        try:
            async with aclosing(_loading(resident)) as waiting:
                async for one in waiting:
                    yield one
            assert resident.loading is not None
            async with aclosing(with_beats(work(await resident.loading), BEAT_SECONDS)) as lines:
                async for found in lines:
                    yield line({TAG: "Alive"}) if found is None else found
        except DS4Error as error:
            yield line({TAG: "Raised", "error": error_to(error)})
        except Exception as error:
            log.exception("a request failed")
            yield line({TAG: "Raised", "error": error_to(error)})
        finally:
            self.residents.leave(resident, keep_alive)

    async def status(self) -> dict[str, Any]:
        """Everything `ds4-backend status` shows."""
        from ds4_backend.machine import this_machine

        machine = this_machine()
        return {
            "pid": os.getpid(),
            "version": __version__,
            "protocol": PROTOCOL,
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "stopping": self.stopping.is_set(),
            "keep_alive": self.residents.keep_alive,
            "memory_bytes": _resident_bytes(),
            "machine": {"memory_total": machine.memory_total, "memory_available": machine.memory_available},
            "requests": {"in_progress": len(self.answering), **self._counts},
            "models": await self.residents.status(),
            **self._about,
        }

    def last_line(self) -> bytes:
        """What ends an answer that the host's own end cut short."""
        return line(event_to(Failed(HostError(STOPPED))))


async def _loaded(engine: Engine) -> Lines:
    yield line({TAG: "Loaded"})


async def _loading(resident: Resident) -> Lines:
    """A line whenever layers were loaded, and on a clock; nothing where the model is there."""
    assert resident.loading is not None
    if resident.loading.done():
        return
    while not resident.loading.done():
        yield line({TAG: "Loading", "done": resident.done, "total": resident.total})
        await asyncio.wait({resident.loading}, timeout=BEAT_SECONDS / 4)
    yield line({TAG: "Loading", "done": resident.done, "total": resident.total})


def _ended(event: Event) -> str | None:
    if isinstance(event, End):
        return "answered"
    return "failed" if isinstance(event, Failed) else None


def _resident_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


async def finished(service: Service) -> None:
    """Ends once a stopping service's answers have ended, by themselves or by its patience."""
    started = time.monotonic()
    while service.answering and time.monotonic() - started < service.grace:
        await asyncio.sleep(0.02)
    cut: set[asyncio.Task[None]] = set()
    while service.answering:
        for task in service.answering - cut:  # once each: a second time would cut its tidying short
            task.cancel()
            cut.add(task)
        await asyncio.sleep(0.02)
