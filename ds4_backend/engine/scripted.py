"""An engine that replays given events: for the tests of front ends, and for trying one without a model.

It renders nothing and computes nothing; every request it is given is kept in `requests`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ds4_backend.engine.engine import Engine, Events
from ds4_backend.engine.running import offer
from ds4_backend.errors import EngineError
from ds4_backend.types import Event, Request

Script = Iterable[Event] | Exception | Callable[[Request], Iterable[Event]]
"""One answer: its events; or what `chat` raises; or a function of the request that gives the events."""


class ScriptedEngine(Engine):
    """Answers the first request with the first script, and so on; running out of scripts is an EngineError.

    `closed_early` counts the answers that were closed before their last event.
    """

    def __init__(self, *scripts: Script, name: str = "scripted") -> None:
        self._scripts = list(scripts)
        self._name = name
        self.requests: list[Request] = []
        self.closed_early = 0
        self.closed = False

    def chat(self, request: Request) -> Events:
        """See `Engine.chat`."""
        self.requests.append(request)
        if len(self.requests) > len(self._scripts):
            raise EngineError(f"{self._name} has {len(self._scripts)} scripts; this is request {len(self.requests)}")
        script = self._scripts[len(self.requests) - 1]
        if isinstance(script, Exception):
            raise script
        return self._play(script(request) if callable(script) else script)

    def _play(self, events: Iterable[Event]) -> Events:
        try:
            yield from events
        except GeneratorExit:
            self.closed_early += 1
            raise

    def count_tokens(self, request: Request) -> int:
        """Words, for want of a tokenizer."""
        return sum(len(message.content.split()) for message in request.messages)

    def status(self) -> Mapping[str, Any]:
        """The name, and how many scripts were played."""
        return {"model": self._name, "requests": len(self.requests)}

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


@contextmanager
def scripted(name: str, *scripts: Script) -> Iterator[ScriptedEngine]:
    """While open, `connect(name)` gives this engine, in this process."""
    engine = ScriptedEngine(*scripts, name=name)
    with offer(name, engine):
        yield engine
