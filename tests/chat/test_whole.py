"""The events of an answer put together."""

from __future__ import annotations

import pytest

from ds4_backend.chat.whole import Whole, arguments_of
from ds4_backend.errors import EngineError
from ds4_backend.types import (
    Alternative,
    End,
    Event,
    Progress,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
)


def whole_of(*events: Event) -> Whole:
    whole = Whole()
    for event in events:
        whole.take(event)
    return whole


def test_pieces_are_joined_each_to_its_own() -> None:
    end = End("tool_calls")
    whole = whole_of(
        Progress(0, 3), ReasoningDelta("Let me "), TextDelta("I "), ReasoningDelta("see."), TextDelta("look."),
        ToolCallStart(0, "a", "f"), ToolCallDelta(0, '{"x": '), ToolCallStart(1, "b", "g"), ToolCallDelta(1, "{}"),
        ToolCallDelta(0, "1}"), end,
    )  # fmt: skip
    assert (whole.text, whole.reasoning, whole.end) == ("I look.", "Let me see.", end)
    assert whole.calls == [ToolCall("a", "f", '{"x": 1}'), ToolCall("b", "g", "{}")]
    assert whole.call_id(1) == "b"


def test_an_answer_without_its_end_has_none() -> None:
    with pytest.raises(EngineError, match="ended without its last event"):
        _ = whole_of(TextDelta("a")).end


def test_log_probabilities_are_in_openais_form() -> None:
    half = Alternative(8, b"\xc3", -2.5)
    listed = whole_of(TextDelta("a", (TokenLogprob(half, (half, Alternative(9, b"a", -0.5))),))).logprobs
    token = {"token": "\ufffd", "bytes": [0xC3], "logprob": -2.5}
    assert listed == [token | {"top_logprobs": [token, {"token": "a", "bytes": [97], "logprob": -0.5}]}]


@pytest.mark.parametrize("cut", ["", "{", '{"path": "/ho', '{"a": [1', "[1]", "3"])
def test_a_call_that_was_cut_short_has_no_arguments(cut: str) -> None:
    assert arguments_of(ToolCall("a", "f", cut)) is None
    assert arguments_of(ToolCall("a", "f", '{"a": null}')) == {"a": None}
