"""The real proxy's /v1/responses, driven by the official OpenAI client. Scripted models: scripted_proxy.py."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from lazily import Lazily

openai = Lazily("openai")
pytestmark = [
    pytest.mark.slow,  # the proxy takes half a minute to start
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),  # litellm's reasoning items are not OpenAI's
]

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "name": "get_weather", "description": "d", "parameters": SCHEMA, "strict": False}


def ask(client: openai.OpenAI, asked: Any, model: str = "scripted", **more: Any) -> Any:
    return client.responses.create(model=model, input=asked, **more)


def received(client: openai.OpenAI, asked: Any = "hi", **more: Any) -> dict[str, Any]:
    return dict(json.loads(ask(client, asked, **more).output_text))


def check_usage(usage: Any) -> None:
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (100, 20, 120)
    assert usage.input_tokens_details.cached_tokens == 64
    assert usage.output_tokens_details.reasoning_tokens == 7


def test_a_whole_answer_has_reasoning_text_and_usage(openai_client: openai.OpenAI) -> None:
    answer = ask(openai_client, "think")
    assert (answer.object, answer.status, answer.model) == ("response", "completed", "scripted")
    reasoning, message = answer.output
    assert (reasoning.type, reasoning.content[0].text) == ("reasoning", "Let me think.")
    assert (message.type, message.role, message.content[0].type) == ("message", "assistant", "output_text")
    assert answer.output_text == "It is 36."
    check_usage(answer.usage)


def test_a_stream_has_the_same_in_pieces(openai_client: openai.OpenAI) -> None:
    found = list(ask(openai_client, "think", stream=True))
    assert found[0].type == "response.created"
    reasoning = [event.delta for event in found if event.type == "response.reasoning_summary_text.delta"]
    text = [event.delta for event in found if event.type == "response.output_text.delta"]
    assert reasoning == ["Let me ", "think."]
    assert [piece for piece in text if piece] == ["It ", "is 36."]
    assert found[-1].type == "response.completed"
    assert found[-1].response.output_text == "It is 36."
    check_usage(found[-1].response.usage)


def test_parallel_calls_whole_and_streamed(openai_client: openai.OpenAI) -> None:
    expected = [("call_0", "get_weather", '{"city": "Paris"}'), ("call_1", "get_weather", '{"city": "Rome"}')]
    whole = [item for item in ask(openai_client, "parallel", tools=[WEATHER]).output if item.type == "function_call"]
    assert [(item.call_id, item.name, item.arguments) for item in whole] == expected
    found = list(ask(openai_client, "parallel", tools=[WEATHER], stream=True))
    done = [e.item for e in found if e.type == "response.output_item.done" and e.item.type == "function_call"]
    assert [(item.call_id, item.name, item.arguments) for item in done] == expected
    pieces = [e.delta for e in found if e.type == "response.function_call_arguments.delta" and e.delta]
    assert pieces == ['{"city": ', '"Paris"}', '{"city": ', '"Rome"}']


def test_a_conversation_of_a_coding_agent_reaches_the_engine(openai_client: openai.OpenAI) -> None:
    found = received(
        openai_client,
        [
            {"role": "user", "content": [{"type": "input_text", "text": "look"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
            {"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
            {"type": "function_call", "call_id": "c2", "name": "get_weather", "arguments": '{"city": "Rome"}'},
            {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
            {"type": "function_call_output", "call_id": "c2", "output": "rain"},
            {"role": "user", "content": [{"type": "input_text", "text": "and?"}]},
        ],
        instructions="You write code.",
        tools=[WEATHER],
        tool_choice={"type": "function", "name": "get_weather"},
        parallel_tool_calls=False,
        reasoning={"effort": "high", "summary": "auto"},
        text={"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}},
        store=False,
        include=["reasoning.encrypted_content"],
        prompt_cache_key="session",
        max_output_tokens=77,
        temperature=0.5,
    )
    turns = [(m["role"], m["content"], m["reasoning"], m["tool_call_id"]) for m in found["messages"]]
    assert turns == [
        ("system", "You write code.", None, None),
        ("user", "look", None, None),
        ("assistant", "I look.", "Hm.", None),
        ("tool", "sunny", None, "c1"),
        ("tool", "rain", None, "c2"),
        ("user", "and?", None, None),
    ]
    assert [call["id"] for call in found["messages"][2]["tool_calls"]] == ["c1", "c2"]
    assert (found["tool_choice"], found["parallel_tool_calls"], found["max_tokens"]) == ("get_weather", False, 77)
    assert (found["thinking"], found["effort"], found["sampling"]["temperature"]) == (True, "high", 0.5)
    assert found["response_format"].startswith("JsonSchema(schema={'type': 'object', 'properties': {'city'")


def test_an_error_has_its_status(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.RateLimitError, match="8 requests wait"):
        ask(openai_client, "busy")


def test_an_error_of_a_stream_is_its_last_event(openai_client: openai.OpenAI) -> None:
    for asked, code, words in (("busy", "rate_limit_exceeded", "8 requests wait"), ("late", None, "in the middle")):
        *_, last = ask(openai_client, asked, stream=True)
        assert (last.type, last.response.status) == ("response.failed", "failed")
        assert words in last.response.error.message
        assert code in (None, last.response.error.code)


def test_a_wrong_key_is_refused(proxy: str) -> None:
    stranger = openai.OpenAI(base_url=f"{proxy}/v1", api_key="sk-wrong", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="No connected db"):  # litellm's words, and 400 instead of 401
        ask(stranger, "hi")


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_stops_the_engine(openai_client: openai.OpenAI, streamed: bool) -> None:
    def closed() -> int:
        return int(ask(openai_client, "closed?").output_text)

    before = closed()
    if streamed:
        stream = ask(openai_client, "for ever", stream=True)
        for event in stream:
            if event.type == "response.output_text.delta":
                break
        stream.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            ask(openai_client.with_options(timeout=1), "for ever")
    for _ in range(100):
        if closed() > before:
            return
        time.sleep(0.1)
    pytest.fail("the engine is still working for a client that left")


def test_a_conversation_stays_on_the_host_that_chat_would_take(openai_client: openai.OpenAI) -> None:
    for number in range(6):
        opening = [{"role": "user", "content": f"question {number}"}]
        later = [{"role": "assistant", "content": "answer"}, {"role": "user", "content": "and then?"}]
        found = {received(openai_client, turns, model="several", instructions="Be brief.")["engine"]
                 for turns in (opening, [*opening, *later])}  # fmt: skip
        messages: list[Any] = [{"role": "system", "content": "Be brief."}, *opening]
        chat = openai_client.chat.completions.create(model="several", messages=messages)
        assert found == {json.loads(chat.choices[0].message.content or "")["engine"]}
