"""The real proxy's /v1/messages, driven by the official Anthropic client. Scripted models: scripted_proxy.py."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from lazily import Lazily

anthropic = Lazily("anthropic")
pytestmark = pytest.mark.slow  # the proxy takes half a minute to start

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "Get the weather for a city.", "input_schema": SCHEMA}
BILLING = "x-anthropic-billing-header: cc_version=2.1; cch=a1b2c3;"


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def ask(client: anthropic.Anthropic, text: str, **more: Any) -> Any:
    return client.messages.create(**{"model": "scripted", "max_tokens": 300, "messages": said(text)} | more)


def blocks(answer: Any) -> list[dict[str, Any]]:
    return [block.model_dump(exclude_none=True) for block in answer.content]


def events(client: anthropic.Anthropic, text: str, **more: Any) -> list[Any]:
    return list(ask(client, text, stream=True, **more))


def shape(found: list[Any]) -> list[Any]:
    """Where blocks start and stop, and the pieces between."""
    short: list[Any] = []
    for event in found:
        if event.type == "content_block_start":
            short.append((event.index, event.content_block.type))
        elif event.type == "content_block_delta":
            piece = event.delta
            short.append(getattr(piece, piece.type.replace("_delta", "").replace("input_json", "partial_json")))
        elif event.type == "content_block_stop":
            short.append(event.index)
    return short


def received(client: anthropic.Anthropic, **request: Any) -> dict[str, Any]:
    (block,) = blocks(ask(client, "hi", **request))
    return dict(json.loads(block["text"]))


def test_a_whole_answer_has_thinking_text_and_usage(anthropic_client: anthropic.Anthropic) -> None:
    answer = ask(anthropic_client, "think")
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", "scripted")
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    thinking, text = blocks(answer)
    assert (thinking["type"], thinking["thinking"]) == ("thinking", "Let me think.")
    assert text == {"type": "text", "text": "It is 36."}
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (36, 64, 20)


def test_a_stream_has_one_block_of_thinking_and_one_of_text(anthropic_client: anthropic.Anthropic) -> None:
    found = events(anthropic_client, "think")
    assert (found[0].type, found[-1].type) == ("message_start", "message_stop")
    assert shape(found) == [(0, "thinking"), "Let me ", "think.", 0, (1, "text"), "It ", "is 36.", 1]
    (last,) = [event for event in found if event.type == "message_delta"]
    assert last.delta.stop_reason == "end_turn"
    assert (last.usage.input_tokens, last.usage.cache_read_input_tokens, last.usage.output_tokens) == (36, 64, 20)


def test_parallel_calls_whole(anthropic_client: anthropic.Anthropic) -> None:
    answer = ask(anthropic_client, "parallel", tools=[WEATHER])
    assert answer.stop_reason == "tool_use"
    calls = [(b["id"], b["name"], b["input"]) for b in blocks(answer) if b["type"] == "tool_use"]
    assert calls == [("call_0", "get_weather", {"city": "Paris"}), ("call_1", "get_weather", {"city": "Rome"})]


def test_parallel_calls_streamed(anthropic_client: anthropic.Anthropic) -> None:
    found = events(anthropic_client, "parallel", tools=[WEATHER])
    assert shape(found) == [
        (0, "thinking"), "Two calls.", 0, (1, "text"), "I look.", 1,
        (2, "tool_use"), '{"city": ', '"Paris"}', 2, (3, "tool_use"), '{"city": ', '"Rome"}', 3,
    ]  # fmt: skip
    starts = [event.content_block for event in found if event.type == "content_block_start"]
    assert [(start.id, start.name) for start in starts[2:]] == [("call_0", "get_weather"), ("call_1", "get_weather")]
    assert [event.delta.stop_reason for event in found if event.type == "message_delta"] == ["tool_use"]


def test_a_conversation_of_a_coding_agent_reaches_the_engine(anthropic_client: anthropic.Anthropic) -> None:
    found = received(
        anthropic_client,
        max_tokens=8000,
        system=[
            {"type": "text", "text": BILLING},
            {"type": "text", "text": "You write code.", "cache_control": {"type": "ephemeral"}},
        ],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "look", "cache_control": {"type": "ephemeral"}}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": ""},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Paris"}},
                    {"type": "tool_use", "id": "t2", "name": "get_weather", "input": {"city": "Rome"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                    {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "rain"}]},
                    {"type": "text", "text": "and?"},
                ],
            },
        ],
        tools=[WEATHER],
        tool_choice={"type": "tool", "name": "get_weather"},
        thinking={"type": "enabled", "budget_tokens": 2000},
        stop_sequences=["X"],
        metadata={"user_id": "user_1_account__session_12345678"},
        extra_headers={"anthropic-beta": "interleaved-thinking-2025-05-14"},
        extra_body={"temperature": 1, "top_k": 3},
    )
    turns = [(m["role"], m["content"], m["reasoning"], m["tool_call_id"]) for m in found["messages"]]
    assert turns == [
        ("system", "You write code.", None, None),
        ("user", "look", None, None),
        ("assistant", "I look.", "Hm.", None),
        ("tool", "sunny", None, "t1"),
        ("tool", "rain", None, "t2"),
        ("user", "and?", None, None),
    ]
    calls = [(call["id"], json.loads(call["arguments"])) for call in found["messages"][2]["tool_calls"]]
    assert calls == [("t1", {"city": "Paris"}), ("t2", {"city": "Rome"})]
    assert found["tools"] == [
        {"name": "get_weather", "description": "Get the weather for a city.", "parameters": SCHEMA}
    ]
    assert (found["tool_choice"], found["stop"], found["max_tokens"]) == ("get_weather", ["X"], 8000)
    assert (found["thinking"], found["effort"]) == (True, "low")  # litellm makes an effort of the budget
    assert (found["sampling"]["temperature"], found["sampling"]["top_k"]) == (1, 3)


@pytest.mark.parametrize(
    ("asked", "thinking", "effort"),
    [
        ({"thinking": {"type": "disabled"}}, False, "none"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, True, "high"),
        ({}, None, None),
    ],
)
def test_thinking_is_asked_for_in_anthropics_ways(
    anthropic_client: anthropic.Anthropic, asked: dict[str, Any], thinking: bool | None, effort: str | None
) -> None:
    found = received(anthropic_client, **asked)
    assert (found["thinking"], found["effort"]) == (thinking, effort)


def test_structured_output_and_any_tool_reach_the_engine(anthropic_client: anthropic.Anthropic) -> None:
    wanted = {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert received(anthropic_client, output_config=wanted)["response_format"].startswith("JsonSchema(")
    assert received(anthropic_client, tools=[WEATHER], tool_choice={"type": "any"})["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [("busy", 429, "8 requests wait"), ("does not fit", 503, "81 GiB are needed"), ("bug", 500, "the engine failed")],
)
def test_an_error_has_its_status(anthropic_client: anthropic.Anthropic, text: str, status: int, words: str) -> None:
    with pytest.raises(anthropic.APIStatusError, match=words) as caught:
        ask(anthropic_client, text)
    assert caught.value.status_code == status


@pytest.mark.parametrize(("text", "words"), [("busy", "8 requests wait"), ("late", "failed in the middle")])
def test_an_error_of_a_stream_is_told_in_the_stream(
    anthropic_client: anthropic.Anthropic, text: str, words: str
) -> None:
    with pytest.raises(anthropic.APIStatusError, match=words):  # litellm has begun the message by then
        events(anthropic_client, text)


def test_a_wrong_key_is_refused(proxy: str) -> None:
    stranger = anthropic.Anthropic(base_url=proxy, api_key="sk-wrong", max_retries=0)
    with pytest.raises(anthropic.BadRequestError, match="No connected db"):  # litellm's words, and 400 instead of 401
        ask(stranger, "hi")


def test_a_client_that_leaves_a_stream_stops_the_engine(anthropic_client: anthropic.Anthropic) -> None:
    def closed() -> int:
        return int(blocks(ask(anthropic_client, "closed?"))[0]["text"])

    before = closed()
    with anthropic_client.messages.stream(model="scripted", max_tokens=300, messages=said("for ever")) as stream:
        for event in stream:
            if event.type == "content_block_delta":
                break
    for _ in range(100):
        if closed() > before:
            return
        time.sleep(0.1)
    pytest.fail("the engine is still working for a client that left")


def test_an_agents_session_stays_on_one_host_whatever_its_billing_header_says(
    anthropic_client: anthropic.Anthropic,
) -> None:
    hosts = set()
    for number in range(6):
        system = [{"type": "text", "text": f"{BILLING} {number}"}, {"type": "text", "text": "You write code."}]
        later = [{"role": "assistant", "content": "x"}, *said("more")] * number
        hosts.add(received(anthropic_client, model="several", system=system, messages=[*said("go"), *later])["engine"])
    assert len(hosts) == 1
