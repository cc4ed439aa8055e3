"""What goes over the wire and comes back."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4_backend import errors
from ds4_backend.errors import ContextOverflow, DS4Error, EngineError, HostError, RequestError
from ds4_backend.host.wire import error_from, error_to, event_from, event_to, request_from, request_to
from ds4_backend.types import (
    Alternative,
    End,
    Event,
    Failed,
    JsonObject,
    JsonSchema,
    Message,
    Progress,
    ReasoningDelta,
    Regex,
    Request,
    Sampling,
    TextDelta,
    Timings,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)

text = st.text(st.characters(), max_size=12)  # lone surrogates too: a model may write half a character
number = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(0, 1 << 40)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | number | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(text, json_values, max_size=3)


def tuples(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=2).map(tuple)


messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    text,
    st.none() | text,
    tuples(st.builds(ToolCall, text, text, text)),
    st.none() | text,
    st.booleans(),
)
samplings = st.builds(
    Sampling,
    temperature=st.none() | number | st.integers(0, 2),
    top_k=st.none() | count,
    logit_bias=st.dictionaries(count, number, max_size=3),
    seed=st.none() | count,
)
formats = st.none() | st.builds(JsonSchema, objects | st.booleans()) | st.just(JsonObject()) | st.builds(Regex, text)
requests = st.builds(
    Request,
    tuples(messages),
    tuples(st.builds(Tool, text, text, objects)),
    tool_choice=text,
    parallel_tool_calls=st.booleans(),
    response_format=formats,
    thinking=st.none() | st.booleans(),
    effort=st.sampled_from([None, "none", "max"]),
    sampling=samplings,
    max_tokens=st.none() | count,
    stop=tuples(text),
    logprobs=st.none() | count,
    private=st.booleans(),
    keep_alive=st.none() | number,
)
alternatives = st.builds(Alternative, count, st.binary(max_size=4), number)
logprobs = st.builds(TokenLogprob, alternatives, tuples(alternatives))
events = st.one_of(
    st.builds(Progress, count, count, count, st.sampled_from(["queued", "prefill", "decode"]), count),
    st.builds(ReasoningDelta, text),
    st.builds(TextDelta, text, tuples(logprobs)),
    st.builds(ToolCallStart, count, text, text),
    st.builds(ToolCallDelta, count, text),
    st.builds(
        End,
        st.sampled_from(["stop", "length", "tool_calls", "cancelled"]),
        st.builds(Usage, count, count, count, count, count),
        st.builds(Timings, number, number, number),
        objects,
    ),
)


def over_the_wire(value: Any) -> Any:
    sent = json.dumps(value)
    assert "\n" not in sent
    return json.loads(sent)


@settings(max_examples=30)
@given(requests)
def test_a_request_comes_back_as_it_was(request: Request) -> None:
    assert request_from(over_the_wire(request_to(request))) == request


@settings(max_examples=30)
@given(events)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    assert event_from(over_the_wire(event_to(event))) == event


def test_every_event_is_tried_here() -> None:
    tried = {Progress, ReasoningDelta, TextDelta, ToolCallStart, ToolCallDelta, End, Failed}
    assert set(get_args(Event)) == tried


def test_what_is_at_its_default_is_not_sent() -> None:
    assert request_to(Request((Message("user", "hi"),))) == {"messages": [{"role": "user", "content": "hi"}]}
    assert event_to(TextDelta("a")) == {"type": "TextDelta", "text": "a"}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"messages": [], "colour": 1}, "request has an unknown field 'colour'; it was made by another version"),
        ({"messages": [{"role": "user", "size": 1}]}, r"request.messages\[0\] has an unknown field 'size'"),
        ({}, "request lacks the field 'messages'"),
        ({"messages": 3}, "request.messages is not a list"),
        ({"messages": [], "max_tokens": "3"}, "request.max_tokens is not of type int"),
        ({"messages": [], "max_tokens": True}, "request.max_tokens is not of type int"),
        ({"messages": [], "sampling": {"temperature": "0"}}, "request.sampling.temperature is not of type float"),
        ({"messages": [], "sampling": {"logit_bias": {"a": 1}}}, "has the key 'a', which is no whole number"),
        ({"messages": [], "response_format": {"type": "Yaml"}}, "is none of JsonSchema, JsonObject, Regex"),
        ({"messages": [], "keep_alive": float("nan")}, "keep_alive is nan; it must be a number of seconds"),
        ([], "request is not an object"),
    ],
)
def test_a_request_that_is_not_understood_is_refused_by_field(body: Any, told: str) -> None:
    with pytest.raises(RequestError, match=told):
        request_from(body)


@pytest.mark.parametrize("line", [{"type": "Song", "text": "la"}, {}, [], {"type": "TextDelta"}])
def test_an_event_that_is_not_understood_is_the_hosts_error(line: Any) -> None:
    with pytest.raises(HostError, match="the host's answer is not understood"):
        event_from(line)


def every_error() -> list[type[DS4Error]]:
    found = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, DS4Error)]
    assert len(found) > 10
    return found


@pytest.mark.parametrize("kind", every_error())
def test_an_error_keeps_its_class_and_its_text(kind: type[DS4Error]) -> None:
    back = event_from(over_the_wire(event_to(Failed(kind("1,000 tokens are too many")))))
    assert isinstance(back, Failed)
    assert type(back.error) is kind
    assert str(back.error) == "1,000 tokens are too many"


def test_an_error_of_no_tree_becomes_an_engine_error_that_names_it() -> None:
    assert error_to(ZeroDivisionError("by zero")) == {"class": "EngineError", "text": "ZeroDivisionError: by zero"}


def test_an_error_derived_from_one_of_the_tree_becomes_that() -> None:
    class FarTooLong(ContextOverflow):
        pass

    assert type(error_from(error_to(FarTooLong("x")))) is ContextOverflow


@pytest.mark.parametrize("name", ["NewError", "SystemExit", "__doc__", "annotations"])
def test_an_error_of_another_version_becomes_an_engine_error_with_its_text(name: str) -> None:
    found = error_from({"class": name, "text": "what it says"})
    assert type(found) is EngineError
    assert str(found) == "what it says"
