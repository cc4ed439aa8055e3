from __future__ import annotations

import threading

import pytest
from engine_fakes import ask, engine_that_writes

from ds4_backend.errors import ContextOverflow, EngineError, RequestError
from ds4_backend.types import (
    End,
    Event,
    Failed,
    Message,
    Progress,
    ReasoningDelta,
    Request,
    Sampling,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
)

CALL = (
    '\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="get_weather">\n'
    '<｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>\n'
    "</｜DSML｜invoke>\n</｜DSML｜tool_calls>"
)
WEATHER = Tool("get_weather", "", {"type": "object", "properties": {"city": {"type": "string"}}})


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def end_of(events: list[Event]) -> End:
    assert isinstance(events[-1], End), events[-1]
    assert sum(isinstance(event, End | Failed) for event in events) == 1
    return events[-1]


def test_an_answer_streams_and_ends_with_its_counts() -> None:
    engine, _ = engine_that_writes("Grüße!")
    events = list(engine.chat(ask("hi")))
    end = end_of(events)
    assert text_of(events) == "Grüße!"
    assert end.finish_reason == "stop"
    assert end.usage.input == engine.count_tokens(ask("hi"))
    assert (end.usage.cached, end.usage.output, end.usage.reasoning) == (0, len("Grüße!".encode()), 0)
    assert end.metadata["finish_cause"] == "eos"
    assert 0 < end.timings.first_token_seconds < 60


def test_thinking_comes_first_and_is_counted_up_to_its_end() -> None:
    engine, _ = engine_that_writes("hmm</think>yes")
    events = list(engine.chat(ask("hi", thinking=True)))
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "hmm"
    assert text_of(events) == "yes"
    assert (end_of(events).usage.reasoning, end_of(events).usage.output) == (4, 7)
    assert end_of(events).metadata["effort"] == "low"


def test_a_call_ends_the_answer_without_waiting_for_its_end_token() -> None:
    engine, _ = engine_that_writes("Let me look." + CALL + "and more")
    events = list(engine.chat(ask("weather?", tools=(WEATHER,))))
    start = next(event for event in events if isinstance(event, ToolCallStart))
    arguments = "".join(event.text for event in events if isinstance(event, ToolCallDelta))
    assert (start.index, start.name, arguments) == (0, "get_weather", '{"city": "Paris"}')
    assert text_of(events) == "Let me look."
    assert end_of(events).finish_reason == "tool_calls"


def test_progress_follows_the_grid_and_ends_at_the_prompt() -> None:
    engine, model = engine_that_writes("ok")
    events = list(engine.chat(ask("x" * 300)))
    total = end_of(events).usage.input
    assert [event.done for event in events if isinstance(event, Progress)] == [0, 128, 256, total]
    assert [len(ids) for ids in model.forwarded[:4]] == [128, 128, total - 257, 1]


def test_a_history_that_ends_with_the_models_turn_is_counted_though_it_cannot_be_answered() -> None:
    engine, _ = engine_that_writes("")
    asked, said = Message("user", "hi"), Message("assistant", "hello")
    call = Message("assistant", tool_calls=(ToolCall("c", "now", "{}"),))
    counts = [engine.count_tokens(Request(tuple(them))) for them in ([asked], [asked, said], [asked, call])]
    assert counts[0] < counts[1] < engine.count_tokens(Request((asked, said, asked)))
    assert counts[0] < counts[2] <= engine.count_tokens(Request((asked, call, Message("tool", "", tool_call_id="c"))))


def test_max_tokens_cuts_and_says_length() -> None:
    engine, _ = engine_that_writes("abcdef")
    events = list(engine.chat(ask("hi", max_tokens=3)))
    assert text_of(events) == "abc"
    assert (end_of(events).finish_reason, end_of(events).usage.output) == ("length", 3)
    assert end_of(events).metadata["finish_cause"] == "max_tokens"


def test_the_context_cuts_and_says_length() -> None:
    prompt = engine_that_writes("")[0].count_tokens(ask("hi"))
    engine, _ = engine_that_writes("abcdef", context=prompt + 4)
    events = list(engine.chat(ask("hi")))
    assert text_of(events) == "abcd"
    assert (end_of(events).finish_reason, end_of(events).metadata["finish_cause"]) == ("length", "context")


def test_a_stop_string_cuts_before_itself_and_is_named() -> None:
    engine, _ = engine_that_writes("one, two, three")
    events = list(engine.chat(ask("hi", stop=(", th", "zzz"))))
    assert text_of(events) == "one, two"
    assert end_of(events).finish_reason == "stop"
    assert end_of(events).metadata["stop_string"] == ", th"


def test_a_prompt_that_does_not_fit_is_refused_at_once_with_the_numbers() -> None:
    engine, model = engine_that_writes("ok", context=100)
    with pytest.raises(ContextOverflow, match=r"the prompt has 1,0\d\d tokens and the context of fake is 100"):
        engine.chat(ask("x" * 1000))
    with pytest.raises(ContextOverflow, match=r"max_tokens is 99, together 1\d\d; .* ask for \d\d or fewer"):
        engine.chat(ask("hi", max_tokens=99))
    assert not model.forwarded


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_tokens": -1}, "max_tokens is -1; it must be at least 0"),
        ({"sampling": Sampling(temperature=9)}, "temperature is 9; it must be a number, 0 to 2"),
        ({"stop": ("",)}, "a stop string is empty"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_at_once(options: dict[str, object], says: str) -> None:
    engine, _ = engine_that_writes("ok")
    with pytest.raises(RequestError, match=says):
        engine.chat(ask("hi", **options))


def test_the_effective_seed_is_reported_and_repeats_the_answer() -> None:
    engine, _ = engine_that_writes("ok", defaults=Sampling(temperature=2.0))
    first = list(engine.chat(ask("hi", max_tokens=20)))
    seed = end_of(first).metadata["seed"]
    again = list(engine.chat(ask("hi", max_tokens=20, sampling=Sampling(seed=seed))))
    assert [event for event in again if not isinstance(event, Progress | End)] == [
        event for event in first if not isinstance(event, Progress | End)
    ]


def test_the_next_turn_goes_on_from_the_last_answer() -> None:
    engine, model = engine_that_writes("fine")
    first = end_of(list(engine.chat(ask("how are you?"))))
    model.forwarded.clear()
    second = end_of(list(engine.chat(ask("how are you?", "fine", "and now?"))))
    # Everything but the end-of-sentence token, which was drawn and not yet read.
    assert second.usage.cached == first.usage.input + len("fine")
    assert sum(map(len, model.forwarded)) == second.usage.input - second.usage.cached + second.usage.output


def test_a_turn_whose_thinking_is_dropped_resumes_before_it() -> None:
    engine, _ = engine_that_writes("hmm</think>yes")
    first = end_of(list(engine.chat(ask("hi", thinking=True))))
    history = (Message("user", "hi"), Message("assistant", "yes", reasoning="hmm"), Message("user", "sure?"))
    second = end_of(list(engine.chat(Request(history))))
    assert second.usage.cached == first.usage.input - 1


def test_the_same_request_again_reads_one_token() -> None:
    engine, model = engine_that_writes("ok")
    first = end_of(list(engine.chat(ask("hi"))))
    model.forwarded.clear()
    second = list(engine.chat(ask("hi")))
    assert end_of(second).usage.cached == first.usage.input - 1
    assert len(model.forwarded[0]) == 1
    assert text_of(second) == "ok"


def test_two_conversations_do_not_disturb_each_other() -> None:
    engine, _ = engine_that_writes(lambda prompt: "A" if "alpha" in prompt else "B")
    assert text_of(list(engine.chat(ask("alpha")))) == "A"
    assert text_of(list(engine.chat(ask("beta")))) == "B"
    assert text_of(list(engine.chat(ask("alpha", "A", "again")))) == "A"
    assert text_of(list(engine.chat(ask("beta", "B", "again")))) == "B"


def test_what_is_kept_is_bounded_and_close_releases_it() -> None:
    engine, model = engine_that_writes("ok", kept=3)
    for number in range(10):
        list(engine.chat(ask(f"question {number}")))
        assert len(model.alive) <= 3
    engine.close()
    engine.close()
    assert not model.alive
    with pytest.raises(EngineError, match="was closed"):
        engine.chat(ask("hi"))


def test_closing_the_stream_during_prefill_stops_within_a_chunk_and_keeps_what_was_read() -> None:
    engine, model = engine_that_writes("ok")
    reading, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        if len(model.forwarded) == 2:
            reading.set()
            go_on.wait()

    model.on_forward = hold
    events = engine.chat(ask("x" * 1000))
    next(events)
    reading.wait()
    threading.Timer(0.05, go_on.set).start()  # the third chunk is being read when the client leaves
    events.close()
    assert not engine.status()["running"]
    assert [len(ids) for ids in model.forwarded] == [128, 128, 128]
    assert len(model.alive) == 1
    model.on_forward = lambda: None
    assert end_of(list(engine.chat(ask("x" * 1000)))).usage.cached == 384


def test_closing_the_stream_while_it_writes_stops_it_and_a_retry_goes_on_from_there() -> None:
    engine, model = engine_that_writes("a long answer" * 100)
    events = engine.chat(ask("hi"))
    while not isinstance(next(events), TextDelta):
        pass
    events.close()
    assert engine.status()["running"] == 0
    assert sum(len(ids) for ids in model.forwarded) < 800
    assert text_of(list(engine.chat(ask("hi")))) == "a long answer" * 100
    engine.close()
    assert not model.alive


def test_closing_before_anything_was_read_leaks_nothing() -> None:
    engine, model = engine_that_writes("ok")
    engine.chat(ask("hi")).close()
    events = engine.chat(ask("hi"))
    next(events)
    events.close()
    assert not engine.status()["running"]
    engine.close()
    assert not model.alive


def test_an_engine_closed_in_the_middle_of_an_answer_releases_all_at_its_end() -> None:
    engine, model = engine_that_writes("some answer")
    events = engine.chat(ask("hi"))
    next(events)
    engine.close()
    assert text_of(list(events)) == "some answer"
    assert not model.alive


def test_a_request_that_waits_when_the_engine_closes_fails_instead_of_waiting_for_ever() -> None:
    engine, model = engine_that_writes("ok", active=1)
    reading, go_on = threading.Event(), threading.Event()
    model.on_forward = lambda: (reading.set(), go_on.wait())  # type: ignore[func-returns-value]
    first, second = engine.chat(ask("hi")), engine.chat(ask("ho"))
    next(first)
    reading.wait()
    assert next(second).phase == "queued"  # type: ignore[union-attr]
    engine.close()
    go_on.set()
    assert text_of(list(first)) == "ok"
    *_, last = second
    assert isinstance(last, Failed)
    assert "was closed" in str(last.error)


def test_a_failure_in_the_middle_is_the_last_event_and_releases_the_sequence() -> None:
    engine, model = engine_that_writes("ok")

    def fail() -> None:
        if model.forwarded:
            raise MemoryError("no room")

    model.on_forward = fail
    *_, last = engine.chat(ask("x" * 300))
    assert isinstance(last, Failed)
    assert isinstance(last.error, EngineError)
    assert str(last.error) == "the engine of fake failed: MemoryError: no room"
    assert not model.alive
    model.on_forward = lambda: None
    assert text_of(list(engine.chat(ask("hi")))) == "ok"


def test_an_answer_that_cannot_be_kept_releases_its_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, model = engine_that_writes("ok " * 500)
    monkeypatch.setattr(engine._shelf.turns, "add", lambda *_, **__: 1 / 0)
    before = len(model.alive)
    *_, last = engine.chat(ask("hi", max_tokens=2))
    assert isinstance(last, Failed)
    events = engine.chat(ask("hi"))
    while not isinstance(next(events), TextDelta):
        pass
    events.close()
    assert len(model.alive) == before + len(engine.status()["kept_tokens"])


def test_closing_gives_the_model_back_whatever_else_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, model = engine_that_writes("ok", owns_model=True)
    released: list[str] = []
    model.release = lambda: released.append("model")  # type: ignore[attr-defined]
    monkeypatch.setattr(engine._shelf.kept, "clear", lambda: 1 / 0)
    list(engine.chat(ask("hi")))
    with pytest.raises(ZeroDivisionError):
        engine.close()
    assert released == ["model"]
    engine.close()


def test_a_token_budget_of_zero_reads_the_prompt_for_later() -> None:
    engine, _ = engine_that_writes("ok")
    first = list(engine.chat(ask("hi", max_tokens=0)))
    assert (text_of(first), end_of(first).usage.output, end_of(first).finish_reason) == ("", 0, "length")
    assert end_of(list(engine.chat(ask("hi")))).usage.cached == end_of(first).usage.input - 1


def test_the_status_counts_what_was_done() -> None:
    engine, _ = engine_that_writes("ok")
    used = [end_of(list(engine.chat(ask("hi")))).usage for _ in range(2)]
    status = engine.status()
    assert (status["answered"], status["failed"], status["running"], status["queued"]) == (2, 0, 0, 0)
    assert status["input_tokens"] == sum(u.input for u in used)
    assert status["cached_tokens"] == used[1].input - 1


def test_the_generator_of_an_exhausted_answer_holds_nothing() -> None:
    engine, _ = engine_that_writes("ok")
    events = engine.chat(ask("hi"))
    while not isinstance(next(events), End):
        pass
    assert not engine.status()["running"]  # though the generator was not read to its very end


def test_an_answer_of_open_length_ends_where_the_model_has_a_limit_of_its_own() -> None:
    engine, _ = engine_that_writes("abcdefgh", answer=3)
    events = list(engine.chat(ask("hi")))
    assert (text_of(events), end_of(events).finish_reason) == ("abc", "length")
    assert text_of(list(engine.chat(ask("hi", max_tokens=20)))) == "abcdefgh"
