"""Engines for the host's tests: one that answers in steps, as the test lets it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ds4_backend.engine.engine import Engine, Events
from ds4_backend.types import End, Message, Progress, Request, TextDelta

HELLO = Request((Message("user", "hello"),))


class Waiting(Engine):
    """Says `first`, then waits until it is released or closed, then `last`.

    While it waits it yields a `Progress` now and then, as a real engine does. `begun` and `cancelled` count answers.
    """

    def __init__(self, name: str = "waiting", nbytes: int = 0) -> None:
        self.name, self.nbytes = name, nbytes
        self.begun = self.cancelled = self.closed = 0
        self._go = threading.Event()

    def chat(self, request: Request) -> Events:
        return self._answer()

    def _answer(self) -> Events:
        self.begun += 1
        try:
            yield TextDelta("first")
            while not self._go.wait(0.02):
                yield Progress(1, 1)
            yield TextDelta(" last")
            yield End("stop")
        except GeneratorExit:
            self.cancelled += 1
            raise

    def release(self) -> None:
        """Let every answer end."""
        self._go.set()

    def count_tokens(self, request: Request) -> int:
        return len(request.messages)

    def status(self) -> Mapping[str, Any]:
        return {"model": self.name}

    def close(self) -> None:
        self.closed += 1


def said(events: Any) -> str:
    """The visible text of an answer."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))
