"""The parameters of a chat completions call as a request: every spelling, every refusal."""

from __future__ import annotations

from typing import Any

import pytest

from ds4_backend.chat.parameters import KNOWN, OURS, request_with, thinking_from_openai
from ds4_backend.errors import RequestError
from ds4_backend.options import OPTIONS
from ds4_backend.types import JsonObject, Message, Request, Sampling, Tool

ASKED = (Message("user", "hi"),)
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def test_every_parameter_has_its_place_in_the_request() -> None:
    given = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "presence_penalty": 0.3, "frequency_penalty": 0.4,
        "seed": 7, "logit_bias": {"12": 5}, "max_tokens": 9, "stop": ["A"], "n": 2, "logprobs": True, "top_logprobs": 3,
        "tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False, "private": True, "priority": -1,
        "response_format": {"type": "json_object"}, "thinking": False, "effort": "low", "max_thinking_tokens": 8,
        "keep_alive": 1.5,
    }  # fmt: skip
    assert request_with(ASKED, given) == Request(
        messages=ASKED,
        tools=(Tool("f", "d", {"type": "object"}),),
        thinking=False,
        effort="low",
        sampling=Sampling(0.5, 0.9, 40, 0.1, 7, 0.3, 0.4, {12: 5.0}),
        max_tokens=9,
        stop=("A",),
        private=True,
        tool_choice="required",
        parallel_tool_calls=False,
        response_format=JsonObject(),
        max_thinking_tokens=8,
        logprobs=3,
        n=2,
        priority=-1,
        keep_alive=1.5,
    )


def test_nothing_and_none_leave_it_to_the_model() -> None:
    assert request_with(ASKED, {}) == request_with(ASKED, dict.fromkeys((*KNOWN, *OURS))) == Request(ASKED)


def test_each_has_its_help_and_only_they_are_read() -> None:
    assert set(KNOWN) | set(OURS) == set(OPTIONS)
    assert request_with(ASKED, {"user": "u", "Temperature": 1}) == Request(ASKED)


def test_our_own_may_have_a_prefix() -> None:
    given = {"x_private": True, "x_keep_alive": -1, "x_effort": "max", "x_thinking": False, "private": "passed over"}
    found = request_with(ASKED, given, prefix="x_")
    assert (found.private, found.keep_alive, found.effort, found.thinking) == (True, -1, "max", False)
    with pytest.raises(RequestError, match="x_priority is 'high'; it must be int"):
        request_with(ASKED, {"x_priority": "high"}, prefix="x_")


@pytest.mark.parametrize(
    ("given", "thinking", "effort", "budget"),
    [
        ({"reasoning_effort": "high"}, True, "high", None),
        ({"reasoning_effort": "none"}, False, "none", None),
        ({"reasoning_effort": "default"}, None, None, None),
        ({"reasoning_effort": {"effort": "low", "summary": "auto"}}, True, "low", None),
        ({"reasoning_effort": "low", "x_effort": "max", "x_thinking": False}, True, "low", None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}, "x_max_thinking_tokens": 5}, True, None, 2000),
        ({"thinking": {"type": "adaptive"}, "x_max_thinking_tokens": 5}, True, None, 5),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, False, "high", None),
        ({"thinking": True, "chat_template_kwargs": {"thinking": False}}, True, None, None),
        ({"chat_template_kwargs": {"enable_thinking": False}, "x_thinking": True}, False, None, None),
        ({"x_effort": "max"}, None, "max", None),
    ],
)
def test_reasoning_is_asked_for_in_any_words_and_others_go_before_ours(
    given: dict[str, Any], thinking: bool | None, effort: str | None, budget: int | None
) -> None:
    found = request_with(ASKED, given, prefix="x_")
    assert (found.thinking, found.effort, found.max_thinking_tokens) == (thinking, effort, budget)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"thinking": {"type": ["enabled"]}}, "its type is enabled, adaptive or disabled"),
        ({"thinking": "yes"}, "thinking is 'yes'; it must be bool"),
        ({"chat_template_kwargs": [1]}, r"chat_template_kwargs is \[1\]"),
        ({"logit_bias": {"a": 1}}, "use an object of token ids and numbers"),
        ({"logit_bias": [1]}, "use an object of token ids and numbers"),
        ({"top_logprobs": 3}, "set logprobs to true"),
        ({"private": 1}, "private is 1; it must be bool"),
        ({"priority": True}, "priority is True; it must be int"),
        ({"keep_alive": "1h"}, "keep_alive is '1h'; it must be int or float"),
    ],
)
def test_nonsense_is_refused_by_name(given: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        request_with(ASKED, given)


def test_thinking_may_be_a_switch_or_an_object() -> None:
    said = [None, True, False, {"type": "enabled"}, {"type": "disabled"}]
    assert [thinking_from_openai(value) for value in said] == [None, True, False, True, False]
