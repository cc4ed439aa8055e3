"""Many answers at once, over a model that writes what it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import islice, pairwise

import pytest
from engine_fakes import WritingModel, ask, engine_that_writes

from ds4_backend.engine.channel import BOUND
from ds4_backend.engine.local import LocalEngine
from ds4_backend.engine.pace import Pace
from ds4_backend.engine.ticket import Ticket
from ds4_backend.errors import Busy
from ds4_backend.tokenizer import ASSISTANT, USER
from ds4_backend.types import End, Event, Failed, Progress, Request, TextDelta


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def held(model: WritingModel) -> tuple[threading.Event, threading.Event]:
    """The model stops in its first pass, sets the first event, and goes on when the second is set."""
    reading, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        reading.set()
        go_on.wait()

    model.on_forward = hold
    return reading, go_on


def started(engine: LocalEngine, *requests: Request) -> tuple[list[list[Event]], Callable[[], None]]:
    """Ask all of them from threads of their own; returns where the events go, and how to wait for all."""
    answers: list[list[Event]] = [[] for _ in requests]

    def work(number: int) -> None:
        answers[number].extend(engine.chat(requests[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(requests))]
    for thread in threads:
        thread.start()

    def join() -> None:
        for thread in threads:
            thread.join()

    return answers, join


def wait_for(condition: Callable[[], bool]) -> None:
    beat = threading.Event()
    while not condition():
        beat.wait(0.002)


def test_requests_from_many_threads_are_answered_together() -> None:
    engine, model = engine_that_writes(lambda prompt: "is " + prompt.split("number ")[1][0] * 20)
    reading, go_on = held(model)
    answers, join = started(engine, *(ask(f"number {number}") for number in range(6)))
    wait_for(lambda: engine.status()["running"] + engine.status()["queued"] == 6)
    go_on.set()
    join()
    assert [text_of(events) for events in answers] == [f"is {number}" + str(number) * 19 for number in range(6)]
    assert max(len(batch) for batch in model.batches) == 6  # one pass for all that write
    assert reading.is_set()


def test_a_long_prompt_and_a_running_answer_take_turns() -> None:
    engine, model = engine_that_writes("w" * 200)
    writing, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        if len(model.batches) == 5:
            writing.set()
            go_on.wait()

    model.on_forward = hold
    first, join_first = started(engine, ask("hi"))
    writing.wait()
    second, join_second = started(engine, ask("x" * 2000))
    wait_for(lambda: engine.status()["queued"] == 1)
    go_on.set()
    join_first()
    join_second()
    kinds = ["prompt" if len(batch[0]) > 1 else "token" for batch in model.batches]
    chunks = kinds[kinds.index("prompt", 5) :][:30]  # from the second request's first
    assert chunks.count("prompt") >= 10
    assert ("prompt", "prompt") not in list(pairwise(chunks))  # never two chunks between two tokens
    assert text_of(first[0]) == text_of(second[0]) == "w" * 200


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    engine, model = engine_that_writes("ok")
    reading, go_on = held(model)
    long, join_long = started(engine, ask("x" * 3500))
    reading.wait()
    short, join_short = started(engine, ask("short"))
    wait_for(lambda: engine.status()["queued"] == 1)
    go_on.set()
    join_long()
    join_short()
    sizes = [len(batch[0]) for batch in model.batches]
    tokens = [place for place, size in enumerate(sizes) if size == 1]
    chunks = [place for place, size in enumerate(sizes) if size == 128]
    assert tokens[0] < chunks[5] < chunks[-1]  # the short one is answered while the long one is still being read
    assert text_of(short[0]) == text_of(long[0]) == "ok"


def test_of_those_that_wait_the_higher_priority_goes_first() -> None:
    order: list[str] = []

    def reply(prompt: str) -> str:
        order.append(prompt.removesuffix(ASSISTANT).rpartition(USER)[2])
        return "ok"

    engine, model = engine_that_writes(reply, active=1)
    reading, go_on = held(model)
    first = engine.chat(ask("first"))
    next(first)
    reading.wait()
    threads = []
    for number, (name, priority) in enumerate([("low", -1), ("plain", 0), ("high", 5), ("plain too", 0)], 1):
        request = ask(name, priority=priority)
        threads.append(threading.Thread(target=lambda request=request: list(engine.chat(request))))
        threads[-1].start()
        wait_for(lambda number=number: engine.status()["queued"] == number)
    go_on.set()
    list(first)
    for thread in threads:
        thread.join()
    assert order == ["first", "high", "plain", "plain too", "low"]


def test_one_too_many_is_refused_with_the_numbers() -> None:
    engine, model = engine_that_writes("ok", active=1, waiting=2)
    reading, go_on = held(model)
    answers, join = started(engine, *(ask(f"number {number}") for number in range(3)))
    reading.wait()
    wait_for(lambda: (engine.status()["running"], engine.status()["queued"]) == (1, 2))
    with pytest.raises(Busy, match="fake answers 1 requests and 2 more wait, as many as may; try again later"):
        list(engine.chat(ask("one too many")))
    go_on.set()
    join()
    assert [text_of(events) for events in answers] == ["ok"] * 3
    assert text_of(list(engine.chat(ask("again")))) == "ok"


def test_what_comes_while_the_model_computes_counts_too() -> None:
    engine, model = engine_that_writes("ok", active=2, waiting=2)
    reading, go_on = held(model)
    answers, join = started(engine, ask("first"))
    reading.wait()
    more, join_more = started(engine, *(ask(f"number {number}") for number in range(3)))
    wait_for(lambda: engine.status()["queued"] == 3)  # none is admitted before the pass is over
    with pytest.raises(Busy, match="fake answers 1 requests and 3 more wait"):
        list(engine.chat(ask("one too many")))
    go_on.set()
    join()
    join_more()
    assert [text_of(events) for events in answers + more] == ["ok"] * 4


def test_a_prompt_is_cut_shorter_from_the_next_chunk_on_once_another_request_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, model = engine_that_writes("ok")
    engine._scheduler.pace = pace = Pace(512)
    pace.read(512, 1.5)
    monkeypatch.setattr(pace, "read", lambda tokens, seconds: None)
    reading, go_on = held(model)
    long, join_long = started(engine, ask("x" * 3000))
    reading.wait()
    short, join_short = started(engine, ask("short"))
    wait_for(lambda: engine.status()["queued"] == 1)
    go_on.set()
    join_long()
    join_short()
    assert [len(batch[0]) for batch in model.batches][:2] == [512, 256]
    assert text_of(short[0]) == text_of(long[0]) == "ok"


def test_a_fault_of_the_scheduler_fails_what_it_holds_and_the_next_request_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, model = engine_that_writes("ok")
    with monkeypatch.context() as patch:
        patch.setattr(engine._scheduler, "_round", lambda: 1 / 0)
        *_, last = engine.chat(ask("hi"))
    assert isinstance(last, Failed)
    assert str(last.error) == "the engine of fake failed: ZeroDivisionError: division by zero"
    assert text_of(list(engine.chat(ask("hi")))) == "ok"
    engine.close()
    assert not model.alive


def test_an_answer_that_is_dropped_on_the_thread_that_computes_stops_nobody() -> None:
    """The garbage collector closes an abandoned generator wherever it happens to run."""
    engine, model = engine_that_writes("long " * 500)
    events = engine.chat(ask("hi"))
    suspended, dropped = threading.Event(), threading.Event()

    def drop() -> None:
        suspended.wait()
        events.close()
        dropped.set()

    model.on_forward = drop
    next(events)
    suspended.set()
    dropped.wait()
    wait_for(lambda: not engine.status()["busy"])
    assert text_of(list(engine.chat(ask("ho")))) == "long " * 500


def test_a_request_that_waits_shows_that_it_is_alive() -> None:
    engine, model = engine_that_writes("ok", active=1)
    reading, go_on = held(model)
    first, second = engine.chat(ask("hi")), engine.chat(ask("ho"))
    next(first)
    reading.wait()
    assert next(second) == Progress(0, engine.count_tokens(ask("ho")), phase="queued")
    go_on.set()
    assert text_of(list(first)) == text_of(list(second)) == "ok"


def test_a_reader_that_falls_behind_is_waited_for_and_stops_nobody_else() -> None:
    engine, _ = engine_that_writes("w" * 3 * BOUND)
    slow = engine.chat(ask("slow"))
    next(slow)
    assert text_of(list(engine.chat(ask("quick")))) == "w" * 3 * BOUND
    written = engine.status()["kept_tokens"]
    assert engine.status()["running"] == 1
    assert text_of(list(slow)) == "w" * 3 * BOUND
    assert written


def test_readers_that_fall_behind_take_no_places() -> None:
    engine, model = engine_that_writes("w" * 3 * BOUND, active=2)
    slow = [engine.chat(ask(f"slow {number}")) for number in range(3)]
    for events in slow:
        next(events)
    wait_for(lambda: engine.status()["running"] == 3 and all(t.channel.full for t in engine._scheduler._active))
    assert text_of(list(engine.chat(ask("quick")))) == "w" * 3 * BOUND
    for events in slow:  # all of them go on
        list(islice(events, 2 * BOUND))
    waiting, join = started(engine, *(ask(f"waiting {number}") for number in range(4)))
    assert [text_of(list(events))[-3:] for events in slow] == ["www"] * 3
    join()
    assert [text_of(events) for events in waiting] == ["w" * 3 * BOUND] * 4
    assert max(len(batch) for batch in model.batches) <= 2


def test_more_answers_than_places_leave_no_place_for_others() -> None:
    engine, _ = engine_that_writes("ok", active=2)
    engine._scheduler._active = [Ticket(lambda channel: iter(()), lambda: Progress(0, 1)) for _ in range(3)]
    assert engine._scheduler._free([]) == 0


def test_one_that_fails_takes_nobody_with_it() -> None:
    engine, model = engine_that_writes("w" * 50)
    failing = threading.Event()

    def fail() -> None:
        if failing.is_set():
            failing.clear()
            raise MemoryError("no room")

    model.on_forward = fail
    first = engine.chat(ask("first"))
    while not isinstance(next(first), TextDelta):
        pass
    failing.set()
    *_, last = first
    if not isinstance(last, Failed):  # it was already done
        *_, last = engine.chat(ask("second"))
    assert isinstance(last, Failed)
    *_, last = engine.chat(ask("third"))
    assert isinstance(last, End)
    engine.close()
    assert not model.alive


def test_closing_with_cancel_ends_what_runs_and_saves_it() -> None:
    engine, model = engine_that_writes("long " * 500)
    events = engine.chat(ask("hi"))
    while not isinstance(next(events), TextDelta):
        pass
    engine.close(cancel=True)
    assert not model.alive
    assert engine.status()["running"] == 0
