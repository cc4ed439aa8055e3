"""The client alone: what it makes of lines, and of connections that end too early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from host_fakes import HELLO

from ds4_backend.engine.engine import Engine
from ds4_backend.errors import Busy, HostError
from ds4_backend.host import client as client_module
from ds4_backend.host.client import HostEngine
from ds4_backend.host.link import Lost, Unreachable
from ds4_backend.host.place import Place
from ds4_backend.host.wire import error_to, event_to
from ds4_backend.types import End, Event, Failed, TextDelta

HI, END = event_to(TextDelta("hi")), event_to(End("stop"))
PLACE = Place(Path("/state/host/a"), Path("/state/host/a/socket"))
Read = Callable[[Engine], list[Event]]


class Lines:
    """A link whose calls give the next list of lines; an error among them is raised."""

    socket, address = Path("/state/host/a/socket"), "unix:///state/host/a/socket"

    def __init__(self, *calls: list[Any]) -> None:
        self._calls = list(calls)

    def lines(self, path: str, body: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        for line in self._calls.pop(0):
            if isinstance(line, Exception):
                raise line
            yield line

    async def alines(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        for line in self.lines(path, body):
            yield line


def in_a_thread(engine: Engine) -> list[Event]:
    return list(engine.chat(HELLO))


def in_a_loop(engine: Engine) -> list[Event]:
    async def read() -> list[Event]:
        async with aclosing(engine.achat(HELLO)) as events:
            return [event async for event in events]

    return asyncio.run(read())


@pytest.fixture(params=[in_a_thread, in_a_loop])
def read(request: pytest.FixtureRequest) -> Read:
    """All events of one answer, sync and async."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Place]:
    """The hosts that the client has started."""
    found: list[Place] = []
    monkeypatch.setattr(client_module, "ensure", found.append)
    return found


def engine(*calls: list[Any], place: Place | None = PLACE, **options: Any) -> HostEngine:
    return HostEngine("m", link=Lines(*calls), place=place, **options)  # type: ignore[arg-type]


def test_signs_of_life_are_no_events(read: Read, started: list[Place]) -> None:
    seen: list[tuple[int, int]] = []
    lines = [{"type": "Loading", "done": 0, "total": 0}, {"type": "Loading", "done": 3, "total": 7}, {"type": "Alive"}]
    answer = read(engine([*lines, HI, END], progress=lambda done, total: seen.append((done, total))))
    assert answer == [TextDelta("hi"), End("stop")]
    assert seen == [(3, 7)]  # nothing to show before the number of layers is known
    assert not started


def test_without_a_host_one_is_started_and_asked_again(read: Read, started: list[Place]) -> None:
    assert read(engine([Unreachable("nobody")], [HI, END])) == [TextDelta("hi"), End("stop")]
    assert started == [PLACE]


def test_a_host_lost_before_the_first_event_is_started_once(read: Read, started: list[Place]) -> None:
    with pytest.raises(HostError, match=r"gone again\. Ask again: a new host is started"):
        read(engine([{"type": "Alive"}, Lost("gone")], [Lost("gone again")]))
    assert started == [PLACE]


@pytest.mark.parametrize("end", [[Lost("reset")], []])
def test_a_host_lost_after_the_first_event_is_the_last_event(read: Read, started: list[Place], end: list[Any]) -> None:
    first, last = read(engine([HI, *end]))
    assert first == TextDelta("hi")
    assert isinstance(last, Failed) and isinstance(last.error, HostError)
    assert "lost in the middle of the answer" in str(last.error)
    assert str(PLACE.log) in str(last.error)
    assert not started


def test_a_connection_that_breaks_after_the_end_breaks_nothing(read: Read, started: list[Place]) -> None:
    assert read(engine([HI, END, Lost("reset")])) == [TextDelta("hi"), End("stop")]


def test_a_host_at_an_address_is_never_started(read: Read, started: list[Place]) -> None:
    with pytest.raises(HostError, match=r"nobody\. See that the host runs there"):
        read(engine([Unreachable("nobody")], place=None))
    assert not started


def test_what_the_engine_raised_is_raised(read: Read, started: list[Place]) -> None:
    with pytest.raises(Busy, match="32 requests wait"):
        read(engine([{"type": "Raised", "error": error_to(Busy("32 requests wait"))}]))
    assert not started


def test_loading_and_counting_start_a_host_too(started: list[Place]) -> None:
    engine([Unreachable("nobody")], [{"type": "Loaded"}]).load()
    assert engine([Lost("gone")], [{"type": "Alive"}, {"type": "Counted", "tokens": 5}]).count_tokens(HELLO) == 5
    with pytest.raises(HostError, match="broke off"):
        engine([], []).load()
    assert len(started) == 3
