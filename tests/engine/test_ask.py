"""Patience with an engine: asked again while it is busy, given up in time, cancelled when nobody listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, closing
from itertools import repeat
from typing import Any

import pytest
from engine_fakes import ask as asking

from ds4_backend.engine.ask import aask, ask
from ds4_backend.engine.engine import Engine
from ds4_backend.engine.scripted import Script, ScriptedEngine
from ds4_backend.errors import Busy, EngineError, RequestError, TookTooLong
from ds4_backend.types import End, Event, Failed, Progress, ReasoningDelta, Request, TextDelta

HELLO = (Progress(1, 2), TextDelta("Hel"), TextDelta("lo"), End("stop"))
BUSY = Busy("8 requests wait")
Ask = Callable[..., list[Event]]


@pytest.fixture(params=["sync", "async"])
def heard(request: pytest.FixtureRequest) -> Ask:
    """All events of one answer of an engine, by either twin."""

    async def all_of(events: AsyncGenerator[Event, None]) -> list[Event]:
        async with aclosing(events):
            return [event async for event in events]

    def call(engine: Engine, **given: Any) -> list[Event]:
        if request.param == "async":
            return asyncio.run(all_of(aask(lambda: engine, asking("hi"), **given)))
        return list(ask(lambda: engine, asking("hi"), **given))

    return call


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited, which nobody waits."""
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("ds4_backend.engine.ask.time.sleep", waited.append)
    monkeypatch.setattr("ds4_backend.engine.ask.asyncio.sleep", pause)
    return waited


def test_an_answer_comes_as_the_engine_gives_it(heard: Ask) -> None:
    assert heard(ScriptedEngine(HELLO)) == list(HELLO)


def test_a_busy_engine_is_asked_again_after_ever_longer_pauses(heard: Ask, pauses: list[float]) -> None:
    engine = ScriptedEngine(BUSY, [Progress(0, 0, phase="queued"), Failed(BUSY)], BUSY, HELLO)
    assert heard(engine, retries=3)[-4:] == list(HELLO)
    assert pauses == [1, 2, 4]


def test_it_is_not_asked_more_often_than_allowed(heard: Ask, pauses: list[float]) -> None:
    engine = ScriptedEngine(BUSY, BUSY, BUSY, HELLO)
    with pytest.raises(Busy, match="8 requests wait"):
        heard(engine, retries=2)
    assert (len(engine.requests), pauses) == (3, [1, 2])


@pytest.mark.parametrize("said", [TextDelta("Hel"), ReasoningDelta("Hm")])
def test_what_was_heard_is_not_asked_for_again(heard: Ask, said: Event, pauses: list[float]) -> None:
    with pytest.raises(Busy):
        heard(ScriptedEngine([said, Failed(BUSY)], HELLO), retries=2)
    assert pauses == []


@pytest.mark.parametrize("script", [RequestError("too long"), [TextDelta("a"), Failed(EngineError("it broke"))]])
def test_other_errors_are_raised_at_once(heard: Ask, script: Script, pauses: list[float]) -> None:
    with pytest.raises((RequestError, EngineError), match=r"too long|it broke"):
        heard(ScriptedEngine(script, HELLO), retries=2)
    assert pauses == []


def without_end(_: Request) -> Iterator[Event]:
    for _ in repeat(None):
        time.sleep(0.005)
        yield Progress(1, 2)


def test_an_answer_that_takes_too_long_is_given_up_and_cancelled(heard: Ask) -> None:
    engine = ScriptedEngine(without_end)
    with pytest.raises(TookTooLong, match=r"no complete answer after 0\.03 seconds: raise `timeout`") as caught:
        heard(engine, timeout=0.03)
    assert isinstance(caught.value, TimeoutError)
    while not engine.closed_early:
        time.sleep(0.005)


def test_opening_the_engine_counts_too() -> None:
    def opened() -> Engine:
        time.sleep(0.05)
        return ScriptedEngine(HELLO)

    with pytest.raises(TookTooLong):
        list(ask(opened, asking("hi"), timeout=0.03))


def test_closing_either_twin_cancels_the_work() -> None:
    engine = ScriptedEngine(HELLO, without_end)
    with closing(ask(lambda: engine, asking("hi"))) as events:
        next(events)
    assert engine.closed_early == 1

    async def leave() -> None:
        async with aclosing(aask(lambda: engine, asking("hi"))) as events:
            await anext(events)

    asyncio.run(leave())
    while engine.closed_early < 2:
        time.sleep(0.005)


def test_cancelling_the_task_that_reads_cancels_the_work() -> None:
    engine = ScriptedEngine(without_end)

    async def leave() -> None:
        async def read() -> None:
            async with aclosing(aask(lambda: engine, asking("hi"))) as events:
                async for _ in events:
                    pass

        task = asyncio.create_task(read())
        while not engine.requests:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    while not engine.closed_early:
        time.sleep(0.005)


def test_the_loop_stays_free_while_the_engine_opens() -> None:
    def opened() -> Engine:
        time.sleep(0.1)
        return ScriptedEngine(HELLO)

    async def count() -> int:
        async def read() -> list[Event]:
            return [event async for event in aask(opened, asking("hi"))]

        ticks, task = 0, asyncio.create_task(read())
        while not task.done():
            await asyncio.sleep(0.005)
            ticks += 1
        return ticks

    assert asyncio.run(count()) > 3
