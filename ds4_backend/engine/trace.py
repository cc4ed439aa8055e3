"""A record of what happens to requests, one JSON object a line, for bug reports: texts as lengths and hashes.

Wraps an engine and sees what goes in and what comes out, with times: the request, how it was rendered (tokens, message
boundaries, replayed turns), every event of the parser, cache decisions, the sampled tokens. It knows nothing of how
answers are made.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import aclosing, closing, contextmanager
from dataclasses import fields, is_dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

from ds4_backend.engine.engine import Engine, Events
from ds4_backend.errors import SettingsError
from ds4_backend.types import End, Event, Failed, Request

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
SHOWN = frozenset(
    {"role", "tool_choice", "effort", "finish_reason", "phase", "model", "dialect", "finish_cause", "reason", "type"}
)
"""Fields whose text is a word of ours, not the user's or the model's."""


class Trace:
    """One trace file. `text` keeps texts as they are; else each becomes its length and a hash, by a key that is made
    afresh for each trace: equal texts are seen to be equal, and cannot be guessed from another trace."""

    def __init__(self, stream: FileIO, *, text: bool = False) -> None:
        self._stream, self._text = stream, text
        self._key = secrets.token_bytes(16)
        self._lock = threading.Lock()
        self._broken = False
        self.numbers = itertools.count(1)

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, text: bool = False) -> Iterator[Trace]:
        """Append to `path`, which only its owner can read. Raises SettingsError where it cannot be opened."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise SettingsError(f"the trace {path} cannot be written: {error.strerror or error}") from error
        with open(descriptor, "wb", buffering=0) as stream:  # nothing is left to be written when it is closed
            yield cls(stream, text=text)

    def write(self, number: int, kind: str, seconds: float, told: Mapping[str, Any]) -> None:
        """One line: request `number`, what, seconds since the request came, and the rest. A full disk ends the trace,
        no request."""
        head = {"time": round(time.time(), 3), "request": number, "kind": kind, "seconds": round(seconds, 4)}
        line = json.dumps(head | {name: self._told(value, name) for name, value in told.items()}, default=str)
        with self._lock:
            if self._broken:
                return
            try:
                self._stream.write(line.encode("ascii") + b"\n")
            except OSError as error:
                self._broken = True
                log.warning("the trace ends here, requests go on without it: %s", error)

    def _told(self, value: Any, name: str) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return {one.name: self._told(getattr(value, one.name), one.name) for one in fields(value)}
        if isinstance(value, Mapping):
            return {str(key): self._told(one, str(key)) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._told(one, name) for one in value]
        if isinstance(value, str | bytes) and not (self._text or name in SHOWN):
            return self._hidden(value)
        return value

    def _hidden(self, value: str | bytes) -> dict[str, Any]:
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        return {"length": len(value), "hash": hashlib.blake2b(data, digest_size=6, key=self._key).hexdigest()}


class TracingEngine(Engine):
    """`engine`, with every answer written to `trace`."""

    def __init__(self, engine: Engine, trace: Trace) -> None:
        self._engine, self._trace = engine, trace
        if hasattr(engine, "traced"):
            engine.traced = True

    def chat(self, request: Request) -> Events:
        """See `Engine.chat`."""
        record = _Record(self._trace, request)
        return self._chat(record, record.started(lambda: self._engine.chat(request)))

    def achat(self, request: Request) -> AsyncGenerator[Event, None]:
        """See `Engine.achat`."""
        record = _Record(self._trace, request)
        return self._achat(record, record.started(lambda: self._engine.achat(request)))

    def count_tokens(self, request: Request) -> int:
        """See `Engine.count_tokens`."""
        return self._engine.count_tokens(request)

    def status(self) -> Mapping[str, Any]:
        """See `Engine.status`."""
        return self._engine.status()

    def close(self) -> None:
        """See `Engine.close`."""
        self._engine.close()

    def _chat(self, record: _Record, events: Events) -> Generator[Event, None, None]:
        with record, closing(events):
            for event in events:
                record.take(event)
                yield _without_trace(event)

    async def _achat(self, record: _Record, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        with record:
            async with aclosing(events):
                async for event in events:
                    record.take(event)
                    yield _without_trace(event)


def _without_trace(event: Event) -> Event:
    """What the client is told: not what is for the trace alone."""
    if not isinstance(event, End) or "trace" not in event.metadata:
        return event
    return replace(event, metadata={name: value for name, value in event.metadata.items() if name != "trace"})


class _Record:
    """The lines of one request."""

    def __init__(self, trace: Trace, request: Request) -> None:
        self._trace, self._number, self._began = trace, next(trace.numbers), time.monotonic()
        self._ended = False
        self._write("request", {one.name: getattr(request, one.name) for one in fields(request)})

    def started(self, start: Callable[[], Answer]) -> Answer:
        """What `start` returns; what it raises is written too."""
        try:
            return start()
        except BaseException as error:
            self._raised(error)
            raise

    def take(self, event: Event) -> None:
        """One line for one event."""
        told: dict[str, Any] = {one.name: getattr(event, one.name) for one in fields(event)}
        if isinstance(event, Failed):
            told = {"type": type(event.error).__name__, "error": str(event.error)}
        self._ended = isinstance(event, End | Failed)
        self._write(type(event).__name__, told)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._ended:
            return
        if error is None or isinstance(error, GeneratorExit | asyncio.CancelledError):
            self._write("closed", {})
        else:
            self._raised(error)

    def _raised(self, error: BaseException) -> None:
        self._write("raised", {"type": type(error).__name__, "error": str(error)})

    def _write(self, kind: str, told: Mapping[str, Any]) -> None:
        self._trace.write(self._number, kind, time.monotonic() - self._began, told)
