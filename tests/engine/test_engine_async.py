from __future__ import annotations

import asyncio
import inspect
import threading
import time

import pytest
from engine_fakes import ask, engine_that_writes

from ds4_backend.engine.engine import Engine
from ds4_backend.engine.local import LocalEngine
from ds4_backend.engine.scripted import ScriptedEngine
from ds4_backend.engine.trace import TracingEngine
from ds4_backend.errors import RequestError
from ds4_backend.host.client import HostEngine
from ds4_backend.types import End, Event, Progress, TextDelta


def wait_until(condition: object) -> None:
    """Poll until `condition()` holds; the test run's own limit ends it otherwise."""
    while not condition():  # type: ignore[operator]
        time.sleep(0.005)


def without_chance(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, End)]


def test_the_async_twin_gives_the_same_events() -> None:
    engine, _ = engine_that_writes("hmm</think>an answer")

    async def read() -> list[Event]:
        return [event async for event in engine.achat(ask("hi", thinking=True))]

    events = asyncio.run(read())
    fresh, _ = engine_that_writes("hmm</think>an answer")
    assert without_chance(events) == without_chance(list(fresh.chat(ask("hi", thinking=True))))
    assert isinstance(events[-1], End)


def test_what_chat_refuses_the_async_twin_raises() -> None:
    engine, _ = engine_that_writes("ok")

    async def read() -> None:
        async for _ in engine.achat(ask("hi", max_tokens=-1)):
            pass

    with pytest.raises(RequestError, match="max_tokens is -1"):
        asyncio.run(read())


def test_the_loop_stays_free_while_the_model_works() -> None:
    engine, model = engine_that_writes("ok")
    go_on = threading.Event()
    model.on_forward = lambda: go_on.wait() and None

    async def read() -> str:
        events = engine.achat(ask("hi"))
        first = await anext(events)
        assert isinstance(first, Progress)
        await asyncio.sleep(0)  # the worker now blocks inside the model; this loop does not
        go_on.set()
        return "".join([event.text async for event in events if isinstance(event, TextDelta)])

    assert asyncio.run(read()) == "ok"


def test_closing_the_async_twin_cancels_the_work() -> None:
    engine, _ = engine_that_writes("long " * 500)

    async def read() -> None:
        events = engine.achat(ask("hi"))
        async for event in events:
            if isinstance(event, TextDelta):
                break
        await events.aclose()

    asyncio.run(read())
    wait_until(lambda: not engine.status()["busy"])
    assert max(engine.status()["kept_tokens"]) < 2000


def test_cancelling_the_task_cancels_the_work() -> None:
    engine, model = engine_that_writes("long " * 500)
    begun = threading.Event()
    model.on_forward = begun.set

    async def read() -> None:
        async for _ in engine.achat(ask("hi")):
            pass

    async def cancel() -> None:
        task = asyncio.create_task(read())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    wait_until(lambda: not engine.status()["busy"])


def test_a_request_that_waits_its_turn_can_be_cancelled() -> None:
    engine, model = engine_that_writes("ok", active=1)
    go_on = threading.Event()
    model.on_forward = lambda: go_on.wait() and None
    first = engine.chat(ask("hi"))
    next(first)

    async def read() -> None:
        events = engine.achat(ask("ho"))
        assert isinstance(await anext(events), Progress)
        await events.aclose()

    asyncio.run(read())
    go_on.set()
    assert [type(event) for event in first][-1] is End
    wait_until(lambda: not engine.status()["busy"])
    assert engine.status()["answered"] == 1


def test_closing_an_engine_waits_for_an_answer_that_was_cancelled_and_still_computes() -> None:
    engine, model = engine_that_writes("ok")
    go_on = threading.Event()
    model.on_forward = lambda: go_on.wait() and None

    async def leave() -> None:
        events = engine.achat(ask("hi"))
        await anext(events)
        await events.aclose()  # does not wait for the pass that is being computed

    asyncio.run(leave())
    threading.Timer(0.05, go_on.set).start()
    engine.close()
    assert not model.alive


ENGINES = [Engine, LocalEngine, ScriptedEngine, HostEngine, TracingEngine]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.__name__)
def test_every_async_method_has_a_twin_with_the_same_parameters(engine: type) -> None:
    twins = {name: name[1:] for name in dir(engine) if name.startswith("a") and hasattr(engine, name[1:])}
    assert set(twins) == {"achat", "acount_tokens", "astatus"}
    for pair in twins.items():
        ours, theirs = (inspect.signature(getattr(engine, name)) for name in pair)
        assert ours.parameters == theirs.parameters
