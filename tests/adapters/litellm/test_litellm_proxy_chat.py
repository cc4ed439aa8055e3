"""The real proxy's /v1/chat/completions, driven by the official OpenAI client. Scripted models: scripted_proxy.py."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from lazily import Lazily

openai = Lazily("openai")
pytestmark = pytest.mark.slow  # the proxy takes half a minute to start

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather for a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 7},
}


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def ask(client: openai.OpenAI, text: str, model: str = "scripted", **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=said(text), **more)


def plain(answer: Any) -> Any:
    return answer.model_dump(exclude_none=True)


def received(client: openai.OpenAI, **request: Any) -> dict[str, Any]:
    """What came out of the engine's side of the proxy."""
    answer = client.chat.completions.create(**{"model": "scripted", "messages": said("hi")} | request)
    return dict(json.loads(answer.choices[0].message.content))


def test_a_whole_answer_has_text_reasoning_and_usage(openai_client: openai.OpenAI) -> None:
    answer = plain(ask(openai_client, "think"))
    (choice,) = answer["choices"]
    assert (answer["object"], answer["model"]) == ("chat.completion", "scripted")
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"] == "It is 36."
    assert choice["message"]["reasoning_content"] == "Let me think."
    assert choice["message"]["provider_specific_fields"]["ds4"]["cached_disk"] == 64
    assert answer["usage"] == USAGE


def test_a_stream_has_the_same_in_pieces(openai_client: openai.OpenAI) -> None:
    chunks = [plain(c) for c in ask(openai_client, "think", stream=True, stream_options={"include_usage": True})]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[:2] == [{"role": "assistant"}, {}]
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["Let me ", "think."]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["It ", "is 36."]
    assert [chunk["choices"][0].get("finish_reason") for chunk in chunks[-2:]] == ["stop", None]
    assert chunks[-1]["usage"] == USAGE
    assert not any("usage" in chunk for chunk in chunks[:-1])


def test_parallel_calls_whole(openai_client: openai.OpenAI) -> None:
    (choice,) = plain(ask(openai_client, "parallel", tools=[WEATHER]))["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"] == [
        {"id": f"call_{n}", "type": "function", "function": {"name": "get_weather", "arguments": f'{{"city": "{c}"}}'}}
        for n, c in enumerate(("Paris", "Rome"))
    ]


def test_parallel_calls_streamed(openai_client: openai.OpenAI) -> None:
    names: dict[int, tuple[str, str]] = {}
    arguments: dict[int, list[str]] = {}
    for chunk in ask(openai_client, "parallel", tools=[WEATHER], stream=True):
        for call in chunk.choices[0].delta.tool_calls or ():
            if call.id:
                names[call.index] = (call.id, call.function.name)
            elif call.function.arguments:
                arguments.setdefault(call.index, []).append(call.function.arguments)
    assert names == {0: ("call_0", "get_weather"), 1: ("call_1", "get_weather")}
    assert arguments == {0: ['{"city": ', '"Paris"}'], 1: ['{"city": ', '"Rome"}']}


def test_logprobs_have_openais_shape(openai_client: openai.OpenAI) -> None:
    (found,) = ask(openai_client, "logprobs", logprobs=True, top_logprobs=2).choices[0].logprobs.content
    assert (found.token, found.bytes, found.logprob) == ("Yes", [89, 101, 115], -0.125)
    assert [(one.token, one.logprob) for one in found.top_logprobs] == [("Yes", -0.125), ("\ufffd", -2.5)]


def test_every_parameter_reaches_the_engine(openai_client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    found = received(
        openai_client, temperature=0.5, top_p=0.9, seed=3, presence_penalty=0.1, frequency_penalty=0.2, stop=["X"],
        max_completion_tokens=77, logit_bias={"5": 2}, logprobs=True, top_logprobs=4, tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}}, parallel_tool_calls=False,
        reasoning_effort="high", user="someone", metadata={"a": "b"}, store=False, prompt_cache_key="k",
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
        extra_body={"top_k": 9, "min_p": 0.05, "ds4_max_thinking_tokens": 50},
    )  # fmt: skip
    assert found["sampling"] == {
        "temperature": 0.5, "top_p": 0.9, "top_k": 9, "min_p": 0.05, "presence_penalty": 0.1,
        "frequency_penalty": 0.2, "logit_bias": {"5": 2.0}, "seed": 3,
    }  # fmt: skip
    assert (found["stop"], found["max_tokens"], found["logprobs"]) == (["X"], 77, 4)
    assert (found["tool_choice"], found["parallel_tool_calls"]) == ("get_weather", False)
    assert (found["effort"], found["thinking"], found["max_thinking_tokens"]) == ("high", True, 50)
    assert found["response_format"].startswith("JsonSchema(schema={'type': 'object', 'properties': {'a'")
    assert [tool["name"] for tool in found["tools"]] == ["get_weather"]


def test_settings_from_the_config_file_reach_the_engine_and_a_request_overrides_them(
    openai_client: openai.OpenAI,
) -> None:
    found = received(openai_client, model="with-settings")
    assert (found["priority"], found["keep_alive"], found["private"]) == (3, 60, True)
    found = received(openai_client, model="with-settings", extra_body={"ds4_priority": 5})
    assert (found["priority"], found["keep_alive"]) == (5, 60)


def test_history_with_reasoning_calls_and_results_reaches_the_engine(openai_client: openai.OpenAI) -> None:
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in (1, 2)]
    found = received(
        openai_client,
        messages=[
            {"role": "developer", "content": "Be brief."},
            *said("look"),
            {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c1", "content": "one"},
            {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "two"}]},
            *said("and?"),
        ],
    )
    turns = [(m["role"], m["content"], m["reasoning"], m["tool_call_id"]) for m in found["messages"]]
    assert turns == [
        ("system", "Be brief.", None, None),
        ("user", "look", None, None),
        ("assistant", "I look.", "Hm.", None),
        ("tool", "one", None, "c1"),
        ("tool", "two", None, "c2"),
        ("user", "and?", None, None),
    ]
    assert [call["id"] for call in found["messages"][2]["tool_calls"]] == ["c1", "c2"]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("text", "status", "words"),
    [("busy", 429, "8 requests wait"), ("does not fit", 503, "81 GiB are needed"), ("bug", 500, "the engine failed")],
)
def test_an_error_has_its_status_before_the_first_chunk(
    openai_client: openai.OpenAI, text: str, status: int, words: str, stream: bool
) -> None:
    with pytest.raises(openai.APIStatusError, match=words) as caught:
        list(ask(openai_client, text, stream=stream))
    assert caught.value.status_code == status


def test_an_error_in_the_middle_of_a_stream_is_told_in_the_stream(openai_client: openai.OpenAI) -> None:
    pieces = []
    with pytest.raises(openai.APIError, match="failed in the middle"):
        for chunk in ask(openai_client, "late", stream=True):
            pieces.append(chunk.choices[0].delta.content)
    assert pieces == ["It "]


def test_an_unknown_parameter_is_refused(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="Did you mean 'top_p'"):
        ask(openai_client, "hi", extra_body={"topp": 1})


def test_a_wrong_key_is_refused(proxy: str) -> None:
    stranger = openai.OpenAI(base_url=f"{proxy}/v1", api_key="sk-wrong", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="No connected db"):  # litellm's words, and 400 instead of 401
        ask(stranger, "hi")


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_client_that_leaves_stops_the_engine(openai_client: openai.OpenAI, stream: bool) -> None:
    def closed() -> int:
        return int(ask(openai_client, "closed?").choices[0].message.content)

    before = closed()
    if stream:
        answer = ask(openai_client, "for ever", stream=True)
        next(iter(answer))
        answer.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            ask(openai_client.with_options(timeout=1), "for ever")
    for _ in range(100):
        if closed() > before:
            return
        time.sleep(0.1)
    pytest.fail("the engine is still working for a client that left")


def test_one_conversation_stays_on_one_host_and_conversations_spread(openai_client: openai.OpenAI) -> None:
    def host(*messages: Any) -> str:
        return str(received(openai_client, model="several", messages=list(messages))["engine"])

    openings = [said(f"question {number}")[0] for number in range(12)]
    hosts = {}
    for number, opening in enumerate(openings):
        later = [{"role": "assistant", "content": "answer"}, *said("and then?")]
        found = {host(opening), host(opening, *later), host(opening, *later, *later)}
        assert len(found) == 1
        hosts[number] = found.pop()
    assert set(hosts.values()) == {"host-a", "host-b", "host-c"}


def test_the_models_are_listed_with_their_limits_and_no_price(proxy: str, openai_client: openai.OpenAI) -> None:
    import httpx

    assert {"ds4-flash", "ds4-flash-fast", "ds4-tiny"} <= {model.id for model in openai_client.models.list()}
    found = httpx.get(f"{proxy}/model/info", headers={"Authorization": "Bearer sk-test"}, timeout=60).json()["data"]
    (flash,) = [entry["model_info"] for entry in found if entry["model_name"] == "ds4-flash"]
    assert (flash["max_input_tokens"], flash["input_cost_per_token"], flash["output_cost_per_token"]) == (1 << 20, 0, 0)
    assert flash["supports_reasoning"] and flash["supports_response_schema"] and flash["supports_function_calling"]
