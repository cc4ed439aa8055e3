"""The host and its clients: the real socket and server, with engines that do as they are told."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from host_fakes import HELLO, Waiting, said

from ds4_backend.engine.scripted import ScriptedEngine
from ds4_backend.errors import (
    ContextOverflow,
    DoesNotFit,
    EngineError,
    HostError,
    ModelError,
    RequestError,
    UnknownModel,
)
from ds4_backend.host import link as link_module
from ds4_backend.host.launch import answers, link_of
from ds4_backend.host.link import Unreachable
from ds4_backend.host.place import Place
from ds4_backend.machine import GIB, Machine
from ds4_backend.types import (
    End,
    Failed,
    JsonSchema,
    Message,
    Progress,
    ReasoningDelta,
    Request,
    Sampling,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)

Start = Callable[..., Any]
ANSWER = (
    Progress(3, 7, 2),
    ReasoningDelta("hm"),
    TextDelta("Straße\n\u2028"),
    ToolCallStart(0, "c1", "f"),
    ToolCallDelta(0, '{"a": 1}'),
    End("tool_calls", Usage(7, 2, 5), metadata={"cache": {"memory": 2}}),
)


def until(true: Callable[[], object]) -> None:
    for _ in range(1000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


def test_every_event_arrives_as_the_engine_made_it(start: Start) -> None:
    host = start({"m": ScriptedEngine(ANSWER)})
    assert tuple(host.engine("m").chat(HELLO)) == ANSWER


def test_every_event_arrives_in_an_event_loop_too(start: Start) -> None:
    host = start({"m": ScriptedEngine(ANSWER)})

    async def all_events() -> tuple[Any, ...]:
        async with aclosing(host.engine("m").achat(HELLO)) as events:
            return tuple([event async for event in events])

    assert asyncio.run(all_events()) == ANSWER


def test_the_engine_gets_the_request_as_it_was_made(start: Start) -> None:
    engine = ScriptedEngine(ANSWER)
    list(start({"m": engine}).engine("m").chat(HELLO))
    assert engine.requests == [HELLO]


def test_what_is_no_sense_reaches_the_engine_as_it_is_and_what_is_no_json_is_refused(start: Start) -> None:
    engine = ScriptedEngine(ANSWER)
    client = start({"m": engine}).engine("m")
    odd = Request((Message("user", "lone \ud800"),), sampling=Sampling(temperature=float("inf")))
    assert list(client.chat(odd)) == list(ANSWER)
    assert engine.requests == [odd]
    with pytest.raises(RequestError, match="the request is not JSON: Object of type set is not JSON serializable"):
        list(client.chat(Request(HELLO.messages, response_format=JsonSchema({"enum": {1}}))))


def test_a_model_is_loaded_once_and_its_loading_is_seen(start: Start) -> None:
    host, seen = start({"m": ScriptedEngine(ANSWER, ANSWER)}), []
    for _ in range(2):
        engine = host.engine("m", progress=lambda done, total: seen.append((done, total)))
        engine.load()
        list(engine.chat(HELLO))
    assert host.loads == ["m"]
    assert seen[-1] == (2, 2)


def test_tokens_are_counted_by_the_engine(start: Start) -> None:
    assert start({"m": ScriptedEngine()}).engine("m").count_tokens(HELLO) == 1


def test_what_the_engine_refuses_is_raised_with_its_class(start: Start) -> None:
    host = start({"m": ScriptedEngine(ContextOverflow("9,000 tokens are too many"))})
    with pytest.raises(ContextOverflow, match="9,000 tokens"):
        list(host.engine("m").chat(HELLO))


def test_what_fails_midway_is_the_last_event(start: Start) -> None:
    host = start({"m": ScriptedEngine((TextDelta("a"), Failed(EngineError("broken"))))})
    *_, last = host.engine("m").chat(HELLO)
    assert isinstance(last, Failed) and str(last.error) == "broken"


def test_a_bug_in_the_engine_is_an_engine_error_and_the_host_goes_on(start: Start) -> None:
    host = start({"m": ScriptedEngine(lambda request: iter([1 / 0]), ANSWER)})
    with pytest.raises(EngineError, match="ZeroDivisionError"):
        list(host.engine("m").chat(HELLO))
    assert tuple(host.engine("m").chat(HELLO)) == ANSWER


def test_an_unknown_model_is_refused(start: Start) -> None:
    with pytest.raises(UnknownModel, match="no model 'x'"):
        start({}).engine("x").load()


def test_a_model_that_cannot_be_loaded_is_told_and_can_be_tried_again(start: Start) -> None:
    host = start({"m": ScriptedEngine(ANSWER)})
    good = host.engines.pop("m")
    host._find = None
    host.engines["m"] = Waiting(nbytes=1 << 60)
    with pytest.raises(DoesNotFit, match="GiB for its weights"):
        host.engine("m").load()
    host.engines["m"] = good
    assert tuple(host.engine("m").chat(HELLO)) == ANSWER


def test_answers_are_made_side_by_side(start: Start) -> None:
    engine = Waiting()
    host = start({"m": engine})
    answers_ = [host.engine("m").chat(HELLO) for _ in range(3)]
    assert [next(answer) for answer in answers_] == [TextDelta("first")] * 3
    assert host.status()["requests"]["in_progress"] == 3
    engine.release()
    assert [said(answer) for answer in answers_] == [" last"] * 3
    assert host.status()["requests"] == {"in_progress": 0, "answered": 3, "failed": 0, "cancelled": 0}


def test_closing_an_answer_cancels_the_work(start: Start) -> None:
    engine = Waiting()
    host = start({"m": engine})
    answer = host.engine("m").chat(HELLO)
    next(answer)
    answer.close()
    until(lambda: engine.cancelled == 1)
    until(lambda: host.status()["requests"] == {"in_progress": 0, "answered": 0, "failed": 0, "cancelled": 1})
    assert host.status()["models"][0]["requests"] == 0


def test_cancelling_a_task_that_reads_an_answer_cancels_the_work(start: Start) -> None:
    engine = Waiting()
    host = start({"m": engine})

    async def read(begun: asyncio.Event) -> None:
        async with aclosing(host.engine("m").achat(HELLO)) as events:
            async for _ in events:
                begun.set()

    async def leave() -> None:
        begun = asyncio.Event()
        reading = asyncio.create_task(read(begun))
        await begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(leave())
    until(lambda: engine.cancelled == 1)


def test_an_idle_model_is_unloaded_and_then_an_idle_host_ends(start: Start, place: Place) -> None:
    engine = ScriptedEngine(ANSWER)
    host = start({"m": engine}, keep_alive=0.2)
    list(host.engine("m").chat(HELLO))
    host.ended()
    assert engine.closed
    assert not answers(place)
    assert not place.socket.exists()


def test_a_request_says_how_long_its_model_stays(start: Start) -> None:
    engine = ScriptedEngine(ANSWER, ANSWER)
    host = start({"m": engine}, keep_alive=0.1, ends_idle=False)
    list(host.engine("m").chat(Request(HELLO.messages, keep_alive=-1)))
    time.sleep(0.4)
    assert host.status()["models"][0]["unloads_in_seconds"] is None
    list(host.engine("m").chat(Request(HELLO.messages, keep_alive=0)))
    until(lambda: engine.closed)
    assert host.status()["models"] == []


def test_a_model_in_use_is_not_unloaded_however_long_it_takes(start: Start) -> None:
    engine = Waiting()
    host = start({"m": engine}, keep_alive=0.05)
    answer = host.engine("m").chat(HELLO)
    next(answer)
    time.sleep(0.4)
    assert not engine.closed
    with pytest.raises(HostError, match="1 requests in progress"):
        link_of(host.place).call("/models/unload", {"model": "m"})
    engine.release()
    assert said(answer) == " last"
    until(lambda: engine.closed)


def test_models_can_be_unloaded_by_hand(start: Start) -> None:
    one, two = Waiting("one"), Waiting("two")
    host = start({"one": one, "two": two})
    host.engine("one").load()
    host.engine("two").load()
    assert [model["model"] for model in host.status()["models"]] == ["one", "two"]
    assert link_of(host.place).call("/models/unload", {"model": "one"}) == {"unloaded": ["one"]}
    assert (one.closed, two.closed) == (1, 0)


@pytest.fixture
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Machine("Linux", "x86_64", 32 * GIB, 30 * GIB, (2, 39))
    monkeypatch.setattr("ds4_backend.machine.this_machine", lambda: small)


@pytest.mark.usefixtures("small_machine")
def test_an_idle_model_makes_room_for_another(start: Start) -> None:
    one, two, three = Waiting("one", 10 * GIB), Waiting("two", 10 * GIB), Waiting("three", 16 * GIB)
    host = start({"one": one, "two": two, "three": three})
    for name in ("one", "two", "three"):
        host.engine(name).load()
    assert (one.closed, two.closed) == (1, 0)  # the one that is idle for longer, and no more than is needed
    assert [model["model"] for model in host.status()["models"]] == ["two", "three"]


@pytest.mark.usefixtures("small_machine")
def test_a_model_in_use_makes_no_room_and_the_refusal_has_the_numbers(start: Start) -> None:
    one, two = Waiting("one", 20 * GIB), Waiting("two", 16 * GIB)
    host = start({"one": one, "two": two})
    answer = host.engine("one").chat(HELLO)
    next(answer)
    with pytest.raises(DoesNotFit, match=r"16\.0 GiB.*4\.0 GiB.*32\.0 GiB.*20\.0 GiB.*one \(20\.0 GiB, 1 requests\)"):
        host.engine("two").load()
    one.release()
    assert said(answer) == " last"


def test_a_stop_lets_answers_end(start: Start) -> None:
    engine = Waiting()
    host = start({"m": engine})
    answer = host.engine("m").chat(HELLO)
    next(answer)
    stopping = threading.Thread(target=host.stop, kwargs={"grace": 20.0})
    stopping.start()
    until(lambda: not host.place.socket.exists())
    engine.release()
    *_, last = answer
    assert isinstance(last, End)
    stopping.join()
    assert engine.closed


def test_a_stop_without_patience_tells_those_it_cuts_short(start: Start) -> None:
    engine = Waiting()
    host = start({"m": engine})
    answer = host.engine("m").chat(HELLO)
    next(answer)
    host.stop(grace=0.0)
    *_, last = answer
    assert isinstance(last, Failed) and isinstance(last.error, HostError)
    assert "was stopped before the answer was complete. Ask again" in str(last.error)
    assert engine.cancelled == 1
    assert engine.closed


def test_a_stopping_host_takes_no_more_requests(start: Start, place: Place) -> None:
    engine = Waiting()
    host = start({"m": engine})
    answer = host.engine("m").chat(HELLO)
    next(answer)
    link_of(place).call("/stop", {"grace": 30})
    with pytest.raises(HostError):
        host.engine("m").load()
    assert not answers(place)
    engine.release()
    assert said(answer) == " last"


def test_two_hosts_never_serve_one_place(start: Start) -> None:
    start({})
    with pytest.raises(HostError, match="a host runs for these settings already"):
        start({})


def test_a_socket_that_a_killed_host_left_behind_is_replaced(start: Start, place: Place) -> None:
    place.make()
    place.socket.write_text("nobody listens here")
    assert not answers(place)
    assert start({"m": ScriptedEngine(ANSWER)}).engine("m").count_tokens(HELLO) == 1


def test_only_its_owner_can_reach_the_socket(start: Start, place: Place) -> None:
    start({})
    assert stat.S_IMODE(place.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.socket.parent.stat().st_mode) == 0o700


def test_another_users_connection_is_closed_unanswered(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    host = start({"m": ScriptedEngine(ANSWER)})
    with monkeypatch.context() as patch:
        patch.setattr("ds4_backend.host.peers.peer_user", lambda connection: os.getuid() + 1)
        with pytest.raises(HostError, match="was lost"):
            host.engine("m").load()
    host.engine("m").load()


def test_another_protocol_is_refused_with_both_versions_and_the_way_out(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = start({"m": ScriptedEngine(ANSWER)})
    with monkeypatch.context() as patch:
        patch.setattr(link_module, "PROTOCOL", 77)
        patch.setattr(link_module, "__version__", "9.9")
        told = r"9\.9 \(protocol 77\), the running host is .* \(protocol 1\)\. Stop the host with `ds4-backend stop`"
        with pytest.raises(HostError, match=told):
            host.engine("m").load()
        assert link_of(host.place).call("/stop", {"grace": 0})["requests"] == 0  # which works between all versions
    host.ended()


def test_a_closed_engine_says_so_and_the_model_stays(start: Start) -> None:
    scripted = ScriptedEngine(ANSWER)
    host = start({"m": scripted})
    with host.engine("m") as engine:
        list(engine.chat(HELLO))
    with pytest.raises(EngineError, match="was closed; connect to it again"):
        engine.chat(HELLO)
    assert not scripted.closed


def test_status_tells_of_the_model_and_of_its_host(start: Start) -> None:
    host = start({"m": Waiting("m")})
    engine = host.engine("m")
    assert engine.status()["state"] == "not loaded"
    engine.load()
    told = engine.status()
    assert (told["model"], told["state"], told["host"]["pid"]) == ("m", "loaded", os.getpid())


def test_without_a_host_there_is_a_clear_error(place: Place) -> None:
    with pytest.raises(Unreachable, match="no host answers at unix://"):
        link_of(place).call("/status")


def test_a_stranger_at_the_address_is_found_out(start: Start) -> None:
    host = start({})
    with pytest.raises(HostError, match="is no ds4-backend host"):
        link_of(host.place).call("/nothing-here")
    with pytest.raises(ModelError):
        link_of(host.place).call("/models/unload", {"model": "x"})


def test_a_request_without_a_wish_and_a_look_at_the_model_keep_to_the_hosts_time(start: Start) -> None:
    host = start({"m": ScriptedEngine(ANSWER, ANSWER)})
    engine = host.engine("m")
    list(engine.chat(Request(HELLO.messages, keep_alive=1000)))
    engine.load()
    engine.count_tokens(HELLO)
    assert host.status()["models"][0]["unloads_in_seconds"] > 900
    list(engine.chat(HELLO))
    assert host.status()["models"][0]["unloads_in_seconds"] <= 60


def test_a_client_that_does_not_read_keeps_no_host_from_ending(start: Start) -> None:
    def endless(request: Request) -> Any:
        while True:
            yield TextDelta("x" * 10_000)

    host = start({"m": ScriptedEngine(endless)})
    events = host.engine("m").chat(HELLO)
    next(events)
    time.sleep(0.2)
    host.stop()
    events.close()


def test_a_host_whose_code_was_replaced_makes_way(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Waiting()
    host = start({"m": engine})
    answer = host.engine("m").chat(HELLO)
    next(answer)
    monkeypatch.setattr("ds4_backend.host.process._code", lambda: (1, 1))
    time.sleep(0.5)
    assert host.status()["stopping"] is False  # not in the middle of an answer
    engine.release()
    assert said(answer) == " last"
    host.ended()


def test_an_engine_that_fails_at_its_status_or_its_end_does_not_take_the_host_along(start: Start) -> None:
    class Broken(Waiting):
        def status(self) -> Any:
            raise ZeroDivisionError("by zero")

        def close(self) -> None:
            super().close()
            raise ZeroDivisionError("by zero")

    one, two = Broken("one"), Waiting("two")
    host = start({"one": one, "two": two})
    host.engine("one").load()
    host.engine("two").load()
    with pytest.raises(EngineError, match="the host failed: ZeroDivisionError: by zero"):
        host.status()
    host.stop()
    assert (one.closed, two.closed) == (1, 1)


def test_a_look_after_the_host_that_fails_is_not_the_last(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []

    def fail_once(log: object) -> None:
        looks.append(log)
        if len(looks) == 1:
            raise PermissionError("read-only")

    monkeypatch.setattr("ds4_backend.host.process.limit_log", fail_once)
    engine = ScriptedEngine(ANSWER)
    host = start({"m": engine}, keep_alive=0.3)
    until(lambda: looks)
    list(host.engine("m").chat(HELLO))
    host.ended()
    assert engine.closed


def test_a_host_whose_socket_was_removed_makes_way(start: Start, place: Place) -> None:
    host = start({})
    place.socket.unlink()
    host.ended()
    assert start({"m": ScriptedEngine()}).engine("m").count_tokens(HELLO) == 1


def test_a_pinned_model_is_there_and_stays(start: Start) -> None:
    engine, seen = Waiting(), []
    host = start({"m": engine}, model="m", keep_alive=0.1, report=lambda done, total: seen.append((done, total)))
    until(lambda: seen[-1:] == [(2, 2)])
    time.sleep(0.4)
    assert host.loads == ["m"]
    assert not engine.closed


def test_a_pinned_model_that_is_unknown_ends_the_host(start: Start, place: Place) -> None:
    host = start({}, model="x")
    host.ended()
    assert isinstance(host.error, UnknownModel)
    assert not place.socket.exists()
