"""Conversations through the engine: each turn resumes at the last token of the one before it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from engine_fakes import engine_that_writes

from ds4_backend.chat import render
from ds4_backend.engine import local
from ds4_backend.engine.draw import Draw, Drawer
from ds4_backend.engine.local import LocalEngine
from ds4_backend.engine.sampler import Sampler
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.model import load_model
from ds4_backend.tokenizer import Tokenizer
from ds4_backend.types import (
    End,
    Event,
    Message,
    ReasoningDelta,
    Request,
    Sampling,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)

WEATHER = Tool(
    "get_weather",
    "Get the current weather",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
CALL = (
    '\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="get_weather">\n'
    '<｜DSML｜parameter name="city" string="true">sf</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>'
)
WEATHER_QUESTION, SUM = Message("user", "what is the weather in sf"), Message("user", "What is 3 times 12?")
PATH = str(files("ds4_backend") / "assets" / "ds4-tiny.gguf")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    with open_gguf(PATH) as file:
        return Tokenizer.from_gguf(file.metadata)


@pytest.fixture(scope="module")
def tiny(tokenizer: Tokenizer) -> Iterator[LocalEngine]:
    """The model that is part of the package."""
    with LocalEngine(load_model(PATH), tokenizer, "0731", name="tiny", defaults=Sampling(temperature=0)) as engine:
        yield engine


class Dictation(Drawer):
    """Draws given ids whatever the logits, then the end-of-sentence token."""

    def __init__(self, ids: Sequence[int], tokenizer: Tokenizer) -> None:
        super().__init__(tokenizer, Sampler(Sampling(temperature=0)), budget=1000)
        self._ids = iter(ids)
        self._eos = tokenizer.eos

    def next(self, logits: np.ndarray) -> Draw:
        return Draw((next(self._ids, self._eos),))


def unusual(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of `text`, every third token in single bytes."""
    single = {tokenizer.token_bytes(id): id for id in range(tokenizer.vocab_size) if not tokenizer.is_special(id)}
    return [
        piece
        for number, id in enumerate(tokenizer.encode(text, control=True))
        for piece in (
            [id]
            if number % 3 != 1 or tokenizer.is_special(id)
            else [single[bytes([byte])] for byte in tokenizer.token_bytes(id)]
        )
    ]


def message_of(events: list[Event], echo: bool) -> Message:
    """What a client keeps of an answer: arguments printed anew, reasoning kept or lost."""
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    arguments = {start.index: "" for start in starts}
    for event in events:
        if isinstance(event, ToolCallDelta):
            arguments[event.index] += event.text
    calls = tuple(
        ToolCall(start.id, start.name, json.dumps(json.loads(arguments[start.index]), separators=(",", ":")))
        for start in starts
    )
    content = "".join(event.text for event in events if isinstance(event, TextDelta))
    reasoning = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    return Message("assistant", content, reasoning if echo else None, calls)


def usage_of(events: list[Event]) -> Usage:
    assert isinstance(events[-1], End), events[-1]
    return events[-1].usage


@pytest.mark.parametrize(
    ("thinking", "echo"),
    # Where there is no thinking, there is little to drop.
    [(True, True), (True, False), (False, True), pytest.param(False, False, marks=pytest.mark.slow)],
    ids=["thinking-echoed", "thinking-dropped", "direct-echoed", "direct-dropped"],
)
@pytest.mark.parametrize("tools", [True, False], ids=["tools", "no tools"])
def test_a_conversation_resumes_at_its_last_token(
    tiny: LocalEngine, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, thinking: bool, tools: bool, echo: bool
) -> None:
    system = Message("system", f"thinking {thinking}, tools {tools}, echo {echo}")  # nothing to share among the tests
    request = Request((system, WEATHER_QUESTION), (WEATHER,) * tools, thinking)
    last: Usage | None = None
    calls: tuple[ToolCall, ...] = ()
    for text in ("Let me see:" + CALL * tools, "Sunny there.", "Thirty-six"):
        written = unusual(tokenizer, "Some thought</think>" * thinking + text)
        assert written != tokenizer.encode(tokenizer.decode(written), control=True)
        monkeypatch.setattr(local, "drawer_for", lambda *_, budget, ids=written: Dictation(ids, tokenizer))
        events = list(tiny.chat(request))
        usage = usage_of(events)
        assert usage.output == len(written)
        if last and thinking and not tools:  # the rules drop what was thought: all but the token that opens it
            assert usage.cached == last.input - 1
        elif last:
            assert usage.cached == last.input + last.output - bool(calls)  # the token that ends a call is not read
        last, answer = usage, message_of(events, echo)
        calls = answer.tool_calls
        results = [Message("tool", "sunny and 18 degrees", tool_call_id=call.id) for call in calls]
        request = replace(request, messages=(*request.messages, answer, *(results or [SUM])))


def test_an_agent_loop_of_the_model_itself_resumes_at_its_last_token(tiny: LocalEngine) -> None:
    request = Request((WEATHER_QUESTION,), (WEATHER,), True)
    first = list(tiny.chat(request))
    answer = message_of(first, echo=False)
    (call,) = answer.tool_calls
    result = Message("tool", "sunny and 18 degrees", tool_call_id=call.id)
    second = usage_of(list(tiny.chat(replace(request, messages=(*request.messages, answer, result), max_tokens=8))))
    forced_last = 8  # what the grammar forced at the end of the call is not read
    assert second.cached >= usage_of(first).input + usage_of(first).output - forced_last


def test_dropped_reasoning_comes_back(tiny: LocalEngine, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next answer is the one that a client which echoes the reasoning would get, and the count says so."""
    ask = Request((SUM,), (WEATHER,), True, max_tokens=60)
    with monkeypatch.context() as patch:
        written = unusual(tokenizer, "It is 36.</think>36")
        patch.setattr(local, "drawer_for", lambda *_, budget: Dictation(written, tokenizer))
        events = list(tiny.chat(ask))
    nexts = []
    for echo in (True, False):
        again = replace(ask, messages=(*ask.messages, message_of(events, echo), SUM), max_tokens=10)
        following = list(tiny.chat(again))
        assert tiny.count_tokens(again) == usage_of(following).input
        nexts.append((message_of(following, True), usage_of(following).input))
    assert nexts[0] == nexts[1]


def test_an_edited_answer_is_read_as_edited(
    tiny: LocalEngine, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Request((SUM,), (WEATHER,), True, max_tokens=60)
    written = unusual(tokenizer, "It is 36.</think>36")
    monkeypatch.setattr(local, "drawer_for", lambda *_, budget: Dictation(written, tokenizer))
    first = list(tiny.chat(ask))
    edited = replace(message_of(first, False), content="37")
    again = replace(ask, messages=(*ask.messages, edited, SUM))
    second = usage_of(list(tiny.chat(again)))
    assert second.cached == usage_of(first).input - 1
    assert second.input == len(tokenizer.encode_segments(render(again, "0731").segments))


def test_an_answer_that_was_left_half_way_is_gone_on_from() -> None:
    engine, _ = engine_that_writes("one two three four")
    ask = Request((Message("user", "count"),), thinking=False)
    got = ""
    events = engine.chat(ask)
    for event in events:
        got += event.text if isinstance(event, TextDelta) else ""
        if got == "one two":
            break
    events.close()
    again = replace(ask, messages=(*ask.messages, Message("assistant", got, prefix=True)))
    following = list(engine.chat(again))
    assert got + message_of(following, False).content == "one two three four"
    assert usage_of(following).cached >= engine.count_tokens(ask) - 1  # it wrote on before it heard of the leaving
