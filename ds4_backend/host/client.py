"""The engine of front ends: the same interface, answered by the host.

It maps lines to events and decides when a host is started again; it computes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, closing
from typing import Any

from ds4_backend.engine.engine import Engine, Events
from ds4_backend.errors import EngineError, HostError
from ds4_backend.host.launch import ensure, link_of
from ds4_backend.host.link import Link, Lost, Unreachable
from ds4_backend.host.place import Place
from ds4_backend.host.wire import TAG, error_from, event_from, request_to
from ds4_backend.types import End, Event, Failed, Request

Progress = Callable[[int, int], None]
STATUS_SECONDS = 20.0


class HostEngine(Engine):
    """Answers through the host at `link`, or at `place`, where one is started whenever none answers.

    `model` is what the host is asked for: a path, or a name of its catalogue. `progress` is called with (layers
    loaded, layers) whenever the host loads it.
    """

    def __init__(
        self, model: str, *, link: Link | None = None, place: Place | None = None, progress: Progress | None = None
    ) -> None:
        if link is None:
            assert place is not None, "a host has an address or a place"
            link = link_of(place)
        self._model, self._link, self._place = model, link, place
        self._progress = progress or (lambda done, total: None)
        self._closed = False

    def load(self) -> None:
        """Come back once the model is loaded. Raises ModelError, or HostError where no host can be had."""
        self._result("/load", {"model": self._model}, "Loaded")

    def chat(self, request: Request) -> Events:
        """See `Engine.chat`; the host refuses at the first `next`. Raises HostError where no host can be had."""
        return self._chat(self._body(request))

    def achat(self, request: Request) -> AsyncGenerator[Event, None]:
        """See `Engine.achat`."""
        return self._achat(self._body(request))

    def count_tokens(self, request: Request) -> int:
        """See `Engine.count_tokens`."""
        return int(self._result("/count_tokens", self._body(request), "Counted")["tokens"])

    def status(self) -> Mapping[str, Any]:
        """What the host says of this model, and under `host` of itself. Starts none; over TCP only names it."""
        if self._link.socket is None:  # a listener tells nothing of its machine
            return {"model": self._model, "host": {"address": self._link.address}}
        told = self._link.call("/status", seconds=STATUS_SECONDS)
        models = told.pop("models", [])
        mine: dict[str, Any] = next((one for one in models if self._model in (one["file"], one["model"])), {})
        return {"model": self._model, "state": "not loaded", **mine, "host": told}

    def close(self) -> None:
        """Let go of the host, which keeps the model for others. Closing twice is harmless."""
        self._closed = True

    def _body(self, request: Request) -> dict[str, Any]:
        if self._closed:
            raise EngineError(f"the engine of {self._model} was closed; connect to it again")
        return {"model": self._model, "request": request_to(request)}

    def _chat(self, body: dict[str, Any]) -> Events:
        last: Event | None = None
        for again in (True, False):
            try:
                with closing(self._link.lines("/chat", body)) as lines:
                    for line in lines:  # to the very end, so that the host counts the request as done
                        event = self._event(line)
                        if event is not None:
                            last = event
                            yield event
                return self._check_end(last)
            except (Unreachable, Lost) as error:
                if last is not None:
                    yield from self._broken(last, error)
                    return
                self._start_again(error, again)

    async def _achat(self, body: dict[str, Any]) -> AsyncGenerator[Event, None]:
        last: Event | None = None
        for again in (True, False):
            try:
                async with aclosing(self._link.alines("/chat", body)) as lines:
                    async for line in lines:
                        event = self._event(line)
                        if event is not None:
                            last = event
                            yield event
                self._check_end(last)
                return
            except (Unreachable, Lost) as error:
                if last is not None:
                    for event in self._broken(last, error):
                        yield event
                    return
                await asyncio.to_thread(self._start_again, error, again)

    def _result(self, path: str, body: dict[str, Any], wanted: str) -> dict[str, Any]:
        for again in (True, False):
            try:
                found = None
                with closing(self._link.lines(path, body)) as lines:
                    for line in lines:
                        if line.get(TAG) == wanted:
                            found = line
                        else:
                            self._event(line)
                if found is not None:
                    return found
                raise Lost("the host broke off")
            except (Unreachable, Lost) as error:
                self._start_again(error, again)
        raise AssertionError("the second failure is raised")

    def _event(self, line: dict[str, Any]) -> Event | None:
        """The event of a line; None for what only the client has to know. Raises what the host's engine raised."""
        kind = line.get(TAG)
        if kind == "Loading":
            if line["total"]:
                self._progress(line["done"], line["total"])
            return None
        if kind == "Raised":
            raise error_from(line["error"])
        return None if kind == "Alive" else event_from(line)

    def _start_again(self, error: HostError, again: bool) -> None:
        """See that a host answers, if this is one that may be started and `again` allows it; else raise `error`."""
        if self._place is None or not again:
            raise HostError(f"{error}. {self._advice()}") from error
        ensure(self._place)

    def _check_end(self, last: Event | None) -> None:
        if not isinstance(last, End | Failed):
            raise Lost("the answer broke off")

    def _broken(self, last: Event, error: HostError) -> Iterator[Failed]:
        """What is left to say after `last` where the connection is lost."""
        if not isinstance(last, End | Failed):
            yield Failed(HostError(f"the host was lost in the middle of the answer ({error}). {self._advice()}"))

    def _advice(self) -> str:
        if self._place is None:
            return "See that the host runs there, then ask again"
        return f"Ask again: a new host is started, and goes on from the disk cache. The log: {self._place.log}"
