"""What a request may ask of its answer, seen on ds4-tiny: calls, forms, budgets, log-probabilities."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator

from ds4_backend.engine.local import LocalEngine
from ds4_backend.engine.running import running
from ds4_backend.errors import RequestError
from ds4_backend.types import (
    End,
    Event,
    JsonSchema,
    Message,
    ReasoningDelta,
    Regex,
    Request,
    Sampling,
    TextDelta,
    Tool,
    ToolCallDelta,
    ToolCallStart,
)

CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
WEATHER = Tool("get_weather", "Get the current weather", CITY)
COUNT = Tool("count", "Count", {"type": "object", "properties": {"n": {"type": "integer", "maximum": 50}}})
PERSON = {
    "type": "object",
    "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 99}, "kind": {"enum": ["cat", "dog"]}},
    "required": ["age", "kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tiny() -> Iterator[LocalEngine]:
    patch = pytest.MonkeyPatch()
    patch.setenv("DS4_BACKEND_CACHE", "off")
    with running("ds4-tiny") as engine:
        assert isinstance(engine, LocalEngine)
        yield engine
    patch.undo()


def ask(text: str, **options: object) -> Request:
    given = {"thinking": False, "sampling": Sampling(temperature=0), "max_tokens": 150} | options
    return Request((Message("user", text),), **given)  # type: ignore[arg-type]


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def calls_of(events: list[Event]) -> list[tuple[str, dict[str, object]]]:
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    arguments = ["".join(e.text for e in events if isinstance(e, ToolCallDelta) and e.index == s.index) for s in starts]
    return [(start.name, json.loads(text)) for start, text in zip(starts, arguments, strict=True)]


def end_of(events: list[Event]) -> End:
    assert isinstance(events[-1], End), events[-1]
    return events[-1]


@pytest.mark.parametrize("thinking", [True, False])
def test_a_call_that_is_required_comes_whatever_was_asked(tiny: LocalEngine, thinking: bool) -> None:
    events = list(tiny.chat(ask("Hello!", tools=(WEATHER, COUNT), tool_choice="required", thinking=thinking)))
    (call, *_) = calls_of(events)
    assert call[0] in ("get_weather", "count")
    assert end_of(events).finish_reason == "tool_calls"


def test_a_tool_that_is_named_is_the_one_that_is_called_once(tiny: LocalEngine) -> None:
    request = ask("What is the weather in Paris?", tools=(WEATHER, COUNT), tool_choice="count")
    ((name, arguments),) = calls_of(list(tiny.chat(replace(request, parallel_tool_calls=False))))
    assert name == "count"
    Draft202012Validator(COUNT.parameters).validate(arguments)


def test_in_auto_the_model_calls_when_it_wants_and_writes_when_it_wants(tiny: LocalEngine) -> None:
    asked = ask("What is the weather in Paris?", tools=(WEATHER,))
    assert calls_of(list(tiny.chat(asked))) == [("get_weather", {"city": "Paris"})]
    greeted = list(tiny.chat(ask("Hello!", tools=(WEATHER,))))
    assert text_of(greeted) and not calls_of(greeted)


def test_with_none_no_call_comes_and_the_prompt_is_the_same(tiny: LocalEngine) -> None:
    options = {"tools": (WEATHER,), "max_tokens": 45}  # a whole call takes 43
    asked, kept = (ask("What is the weather in Paris?", tool_choice=c, **options) for c in ("auto", "none"))
    events = list(tiny.chat(kept))
    assert not calls_of(events)
    assert end_of(events).usage.input == tiny.count_tokens(asked)


def test_a_schema_holds_the_text_and_leaves_the_thinking_free(tiny: LocalEngine) -> None:
    events = list(tiny.chat(ask("Describe my pet.", response_format=JsonSchema(PERSON), thinking=True)))
    Draft202012Validator(PERSON).validate(json.loads(text_of(events)))
    assert any(isinstance(event, ReasoningDelta) for event in events)
    assert end_of(events).metadata["finish_cause"] in ("eos", "grammar")


def test_tools_and_a_schema_go_together(tiny: LocalEngine) -> None:
    held = {"tools": (WEATHER,), "response_format": JsonSchema(PERSON)}
    called = list(tiny.chat(ask("What is the weather in Paris?", **held)))
    assert calls_of(called) == [("get_weather", {"city": "Paris"})]
    both = list(tiny.chat(ask("Hello!", **held)))
    assert calls_of(both) or Draft202012Validator(PERSON).is_valid(json.loads(text_of(both)))


def test_a_pattern_holds_the_whole_text(tiny: LocalEngine) -> None:
    events = list(tiny.chat(ask("Yes or no?", response_format=Regex("(yes|no), [a-z]{3}"))))
    assert re.fullmatch("(yes|no), [a-z]{3}", text_of(events))


def test_what_is_forced_is_not_computed_token_by_token(tiny: LocalEngine) -> None:
    exact = {"const": "a long constant text that leaves the model no choice at all"}
    passes = 0
    forward = tiny.model.forward

    def counted(spans: object, **options: object) -> object:
        nonlocal passes
        passes += 1
        return forward(spans, **options)  # type: ignore[arg-type]

    tiny.model.forward = counted  # type: ignore[method-assign, assignment]
    try:
        events = list(tiny.chat(ask("Go.", response_format=JsonSchema(exact))))
    finally:
        del tiny.model.forward
    assert json.loads(text_of(events)) == exact["const"]
    assert passes < end_of(events).usage.output


def test_an_impossible_or_unsupported_form_is_refused_before_anything_is_computed(tiny: LocalEngine) -> None:
    for schema in ({"type": "string", "minLength": 5, "maxLength": 2}, {"$ref": "https://example.com/elsewhere"}):
        with pytest.raises(RequestError, match="schema of the answer"):
            tiny.chat(ask("Hi", response_format=JsonSchema(schema)))
    with pytest.raises(RequestError, match="no tools are declared"):
        tiny.chat(ask("Hi", tool_choice="required"))
    with pytest.raises(RequestError, match="n is 2"):
        tiny.chat(ask("Hi", n=2))


def test_a_tool_that_cannot_be_held_is_refused_where_a_call_is_demanded_and_held_loosely_else(
    tiny: LocalEngine,
) -> None:
    odd = Tool("odd", "", {"type": "object", "minProperties": 1})
    with pytest.raises(RequestError, match="minProperties"):
        tiny.chat(ask("Hi", tools=(WEATHER, odd), tool_choice="required"))
    events = list(tiny.chat(ask("What is the weather in Paris?", tools=(WEATHER, odd))))
    assert calls_of(events) == [("get_weather", {"city": "Paris"})]
    assert end_of(events).metadata["loosely_held_tools"] == ["odd"]


def test_a_budget_closes_the_thinking_and_the_answer_follows(tiny: LocalEngine) -> None:
    question = "What is the weather in Paris?"
    free = end_of(list(tiny.chat(ask(question, tools=(WEATHER,), thinking=True))))
    none = list(tiny.chat(ask(question, tools=(WEATHER,), thinking=True, max_thinking_tokens=0)))
    assert free.usage.reasoning > 3
    assert end_of(none).usage.reasoning == 1  # `</think>` itself
    assert end_of(none).metadata["thinking_closes_at"] == [0, 0]
    assert text_of(none) or calls_of(none)


def test_log_probabilities_come_with_the_text_they_belong_to(tiny: LocalEngine) -> None:
    events = list(tiny.chat(ask("What is 3 times 12?", logprobs=3, thinking=True)))
    texts = [event for event in events if isinstance(event, TextDelta)]
    listed = [one for event in texts for one in event.logprobs]
    assert b"".join(one.token.bytes for one in listed).decode() == text_of(events)
    for one in listed:
        assert len(one.top) == 3
        assert one.token == one.top[0]  # greedy
        assert sum(math.exp(other.logprob) for other in one.top) <= 1 + 1e-6


def test_penalties_and_bias_act_on_greedy_answers_too(tiny: LocalEngine) -> None:
    plain = list(tiny.chat(ask("What is 3 times 12?", logprobs=0)))
    first = next(event for event in plain if isinstance(event, TextDelta)).logprobs[0].token
    biased = Sampling(temperature=0, logit_bias={first.id: -100})
    other = list(tiny.chat(ask("What is 3 times 12?", sampling=biased, logprobs=0, max_tokens=20)))
    assert next(event for event in other if isinstance(event, TextDelta)).logprobs[0].token.id != first.id


def test_the_same_tools_declared_again_resume_the_prompt(tiny: LocalEngine) -> None:
    request = ask("What is the weather in Rome?", tools=(WEATHER, COUNT))
    list(tiny.chat(request))
    again = end_of(list(tiny.chat(request)))
    assert again.usage.cached == again.usage.input - 1
