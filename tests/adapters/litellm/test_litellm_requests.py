"""What litellm hands over, as the core's request: every parameter, every spelling, every refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ds4_backend.errors import RequestError, UnsupportedContent
from ds4_backend.types import JsonObject, JsonSchema, Message, Regex, Request, Sampling, Tool, ToolCall

pytestmark = pytest.mark.slow  # importing litellm takes ten seconds

ASKED = [{"role": "user", "content": "hi"}]
To = Callable[..., Request]


@pytest.fixture
def to(litellm: ModuleType) -> To:
    from litellm_ds4.requests import to_request

    def call(messages: list[Any] = ASKED, drop_unknown: bool = False, **params: Any) -> Request:
        return to_request("tiny", messages, params, drop_unknown=drop_unknown)

    return call


def test_every_sampling_parameter_arrives(to: To) -> None:
    found = to(
        temperature=0.5, top_p=0.9, top_k=40, min_p=0.1, presence_penalty=0.3, frequency_penalty=0.4, seed=7,
        logit_bias={"12": 5, 13: -1.5},
    ).sampling  # fmt: skip
    assert found == Sampling(0.5, 0.9, 40, 0.1, seed=7, presence_penalty=0.3, frequency_penalty=0.4,
                             logit_bias={12: 5.0, 13: -1.5})  # fmt: skip


def test_what_is_not_said_is_left_to_the_model(to: To) -> None:
    assert to() == Request((Message("user", "hi"),))
    assert to(temperature=None, tools=None, response_format=None, stop=None) == to()


def test_limits_and_our_own_settings_arrive(to: To) -> None:
    found = to(max_tokens=9, stop=["A", "B"], n=2, ds4_private=True, ds4_priority=3, ds4_keep_alive=60.5)
    assert (found.max_tokens, found.stop, found.n) == (9, ("A", "B"), 2)
    assert (found.private, found.priority, found.keep_alive) == (True, 3, 60.5)
    assert to(stop="A").stop == ("A",)
    assert to(ds4_keep_alive=-1).keep_alive == -1


def test_tools_and_every_tool_choice(to: To) -> None:
    declared = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]
    found = to(tools=declared, parallel_tool_calls=False)
    assert (found.tools, found.tool_choice) == ((Tool("f", "d", {"type": "object"}),), "auto")
    assert found.parallel_tool_calls is False
    named = {"type": "function", "function": {"name": "f"}}
    choices = [to(tools=declared, tool_choice=one).tool_choice for one in ("auto", "none", "required", named)]
    assert choices == ["auto", "none", "required", "f"]


def test_every_response_format(to: To) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    assert to(response_format={"type": "text"}).response_format is None
    assert to(response_format={"type": "json_object"}).response_format == JsonObject()
    named = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert to(response_format=named).response_format == JsonSchema(schema)
    assert to(response_format={"type": "regex", "pattern": "a+"}).response_format == Regex("a+")


@pytest.mark.parametrize(
    ("params", "thinking", "effort", "budget"),
    [
        ({}, None, None, None),
        ({"reasoning_effort": "high"}, True, "high", None),
        ({"reasoning_effort": "none"}, False, "none", None),
        ({"reasoning_effort": "default"}, None, None, None),
        ({"reasoning_effort": {"effort": "low", "summary": "auto"}}, True, "low", None),
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, True, None, 2000),
        ({"thinking": {"type": "adaptive"}}, True, None, None),
        ({"thinking": {"type": "disabled"}}, False, None, None),
        ({"thinking": False}, False, None, None),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False, None, None),
        ({"chat_template_kwargs": {"thinking": True}}, True, None, None),
        ({"extra_body": {"chat_template_kwargs": {"thinking": False}}}, False, None, None),
        ({"ds4_thinking": False}, False, None, None),
        ({"ds4_thinking": False, "reasoning_effort": "high"}, True, "high", None),
        ({"ds4_effort": "max", "ds4_max_thinking_tokens": 100}, None, "max", 100),
        ({"ds4_effort": "max", "reasoning_effort": "low"}, True, "low", None),
    ],
)
def test_reasoning_is_asked_for_in_any_of_its_ways(
    to: To, params: dict[str, Any], thinking: bool | None, effort: str | None, budget: int | None
) -> None:
    found = to(**params)
    assert (found.thinking, found.effort, found.max_thinking_tokens) == (thinking, effort, budget)


def test_past_reasoning_is_read_from_either_field(to: To) -> None:
    blocks = [
        {"type": "thinking", "thinking": "Let me ", "signature": ""},
        {"type": "thinking", "thinking": "think.", "signature": None},
        {"type": "redacted_thinking", "data": "x"},
    ]
    turn = {"role": "assistant", "content": "36", "thinking_blocks": blocks}
    assert to([*ASKED, turn, *ASKED]).messages[1].reasoning == "Let me think."
    assert to([*ASKED, turn | {"reasoning_content": "Hm."}, *ASKED]).messages[1].reasoning == "Hm."
    assert to([*ASKED, {"role": "assistant", "content": "36"}, *ASKED]).messages[1].reasoning is None


def test_past_calls_and_results_arrive(to: To) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    found = to([*ASKED, {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "one"}]).messages  # fmt: skip
    assert found[1].tool_calls == (ToolCall("c1", "f", '{"a": 1}'),)
    assert found[2] == Message("tool", "one", tool_call_id="c1")


BILLING = "x-anthropic-billing-header: cc_version=2.1; cch=a1b2c3;"


def test_the_billing_header_is_dropped_and_nothing_else(to: To) -> None:
    parts = [{"type": "text", "text": BILLING}, {"type": "text", "text": "Be brief."}]
    assert to([{"role": "system", "content": parts}, *ASKED]).messages[0].content == "Be brief."
    assert to([{"role": "system", "content": BILLING}, *ASKED]).messages == (Message("user", "hi"),)
    for kept in (f"{BILLING}\nBe brief.", "x-anthropic-other: 1", f"See {BILLING}"):
        assert to([{"role": "system", "content": kept}, *ASKED]).messages[0].content == kept
    asked = [{"role": "user", "content": [{"type": "text", "text": BILLING}]}]
    assert to(asked).messages[0].content == BILLING


def test_what_hosted_services_take_and_litellm_keeps_changes_nothing(to: To) -> None:
    ignored = {
        "user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "prompt_cache_key": "k",
        "safety_identifier": "s", "stream": True, "stream_options": {"include_usage": True}, "max_retries": 2,
        "extra_headers": {"x": "y"}, "prompt_cache_retention": "24h",
    }  # fmt: skip
    assert to(**ignored) == to()


def test_every_parameter_that_is_read_is_in_the_docs(litellm: ModuleType) -> None:
    from litellm_ds4.requests import IGNORED, KNOWN

    page = (Path(__file__).parents[3] / "docs" / "litellm.md").read_text(encoding="utf-8")
    assert [name for name in {*KNOWN, *IGNORED} - {"stream"} if f"`{name}`" not in page] == []


def test_an_unknown_parameter_is_refused_with_its_neighbour_unless_they_are_dropped(
    to: To, litellm: ModuleType
) -> None:
    with pytest.raises(litellm.UnsupportedParamsError, match=r"'ds4_privat'.*Did you mean 'ds4_private'") as caught:
        to(ds4_privat=True)
    assert caught.value.status_code == 400
    assert to(ds4_privat=True, drop_unknown=True) == to()


@pytest.mark.parametrize("everywhere", [True, False], ids=["litellm.drop_params", "one call"])
def test_litellms_switch_drops_them(litellm: ModuleType, monkeypatch: pytest.MonkeyPatch, everywhere: bool) -> None:
    from ds4_backend.engine.scripted import scripted
    from ds4_backend.types import End

    monkeypatch.setattr(litellm, "drop_params", everywhere)
    with scripted("script", [End("stop")]) as engine:
        more = {} if everywhere else {"drop_params": True}
        litellm.completion("ds4/script", ASKED, ds4_privat=True, **more)
    assert engine.requests == [Request((Message("user", "hi"),))]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"thinking": {"type": "sometimes"}}, "enabled, adaptive or disabled"),
        ({"thinking": "yes"}, "thinking is 'yes'"),
        ({"chat_template_kwargs": [1]}, "chat_template_kwargs"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"top_logprobs": 3}, "set logprobs to true"),
        ({"stop": [1]}, "stop"),
        ({"tool_choice": 3}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"ds4_private": "yes"}, "ds4_private"),
        ({"ds4_priority": True}, "ds4_priority"),
        ({"ds4_keep_alive": "1h"}, "ds4_keep_alive"),
        ({"tools": "f"}, "tool"),
    ],
)
def test_nonsense_is_refused_by_name(to: To, params: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        to(**params)


def test_an_image_is_refused(to: To) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(UnsupportedContent, match="image_url"):
        to([{"role": "user", "content": [part]}])
