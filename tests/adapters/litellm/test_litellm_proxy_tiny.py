"""The real proxy with the model that is part of the package, on all three endpoints."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lazily import Lazily

anthropic = Lazily("anthropic")
openai = Lazily("openai")
pytestmark = pytest.mark.slow  # the proxy takes half a minute to start

QUESTION = [{"role": "user", "content": "What is 3 times 12?"}]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather for a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def ask(client: openai.OpenAI, messages: list[Any], **more: Any) -> Any:
    given = {"model": "ds4-tiny", "messages": messages, "temperature": 0, "max_tokens": 200}
    return client.chat.completions.create(**given | more)


def test_it_thinks_and_answers_and_the_second_time_reads_nothing_again(openai_client: openai.OpenAI) -> None:
    first, second = (ask(openai_client, QUESTION, seed=1) for _ in range(2))
    assert "36" in first.choices[0].message.content
    assert "36" in first.choices[0].message.reasoning_content
    assert 0 < first.usage.completion_tokens_details.reasoning_tokens < first.usage.completion_tokens
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens - 1


def test_an_effort_of_none_is_an_answer_without_thinking(openai_client: openai.OpenAI) -> None:
    answer = ask(openai_client, QUESTION, reasoning_effort="none")
    assert "36" in answer.choices[0].message.content
    assert not hasattr(answer.choices[0].message, "reasoning_content")
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0


def test_a_turn_that_was_streamed_is_gone_on_from(openai_client: openai.OpenAI) -> None:
    opening = [{"role": "user", "content": "My name is Gertrude"}]
    chunks = list(ask(openai_client, opening, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    usage = chunks[-1].usage
    turns = [*opening, {"role": "assistant", "content": text}, {"role": "user", "content": "What is my name?"}]
    answer = ask(openai_client, turns)
    assert "Gertrude" in answer.choices[0].message.content
    assert answer.usage.prompt_tokens_details.cached_tokens >= usage.prompt_tokens - 1


def test_two_calls_in_one_turn_are_made_and_their_results_are_read(openai_client: openai.OpenAI) -> None:
    asked = [{"role": "user", "content": "What is the weather in Paris? What is the weather in London?"}]
    answer = ask(openai_client, asked, tools=[WEATHER], reasoning_effort="none")
    calls = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Paris"}, {"city": "London"}]
    turn = answer.choices[0].message.model_dump(exclude_none=True)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny, 18 C"} for call in calls]
    last = ask(openai_client, [*asked, turn, *results], tools=[WEATHER], reasoning_effort="none")
    assert "18" in last.choices[0].message.content
    assert last.usage.prompt_tokens_details.cached_tokens >= answer.usage.prompt_tokens


def test_one_call_at_a_time_and_a_forced_call(openai_client: openai.OpenAI) -> None:
    both = [{"role": "user", "content": "What is the weather in Paris? What is the weather in London?"}]
    one = ask(openai_client, both, tools=[WEATHER], parallel_tool_calls=False, reasoning_effort="none")
    assert len(one.choices[0].message.tool_calls) == 1
    hello = [{"role": "user", "content": "Hello"}]
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice in ("required", named):
        forced = ask(openai_client, hello, tools=[WEATHER], tool_choice=choice, reasoning_effort="none")
        assert forced.choices[0].message.tool_calls[0].function.name == "get_weather"


def check_person(text: str) -> None:
    found = json.loads(text)
    assert set(found) == {"name", "age"}
    assert isinstance(found["name"], str) and isinstance(found["age"], int)


def test_structured_output_holds_on_all_three_endpoints(
    openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic
) -> None:
    words = "Give me a person as JSON with name and age."
    asked = [{"role": "user", "content": words}]
    named = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    chat = ask(openai_client, asked, response_format=named, reasoning_effort="none")
    check_person(chat.choices[0].message.content)
    message = anthropic_client.messages.create(
        model="ds4-tiny",
        max_tokens=200,
        messages=asked,  # type: ignore[arg-type]
        thinking={"type": "disabled"},
        output_config={"format": {"type": "json_schema", "schema": PERSON}},
    )
    check_person(message.content[0].text)  # type: ignore[union-attr]
    response = openai_client.responses.create(
        model="ds4-tiny",
        input=words,
        max_output_tokens=200,
        reasoning={"effort": "none"},
        text={"format": {"type": "json_schema", "name": "person", "schema": PERSON}},
    )
    check_person(response.output_text)
    loose = ask(openai_client, asked, response_format={"type": "json_object"}, reasoning_effort="none")
    assert isinstance(json.loads(loose.choices[0].message.content), dict)


def test_a_context_overflow_is_refused_with_both_numbers(
    openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic
) -> None:
    numbers = r"max_tokens is 2,000,000.*the context of ds4-tiny is 32,768"
    with pytest.raises(openai.BadRequestError, match=numbers):
        ask(openai_client, QUESTION, max_tokens=2_000_000)
    with pytest.raises(openai.BadRequestError, match=numbers):
        list(ask(openai_client, QUESTION, max_tokens=2_000_000, stream=True))
    with pytest.raises(openai.BadRequestError, match=numbers):
        openai_client.responses.create(model="ds4-tiny", input="hi", max_output_tokens=2_000_000)
    with pytest.raises(anthropic.BadRequestError, match=numbers):
        anthropic_client.with_options(timeout=600).messages.create(
            model="ds4-tiny",
            max_tokens=2_000_000,
            messages=QUESTION,  # type: ignore[arg-type]
        )


def test_what_the_model_cannot_do_is_refused_in_one_sentence(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="n is 2"):
        ask(openai_client, QUESTION, n=2)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(openai.BadRequestError, match="image_url"):
        ask(openai_client, [{"role": "user", "content": [image]}])
    with pytest.raises(openai.BadRequestError, match="temperature is 9"):
        ask(openai_client, QUESTION, temperature=9)
    with pytest.raises(openai.NotFoundError, match="ds4-flash is not installed"):
        ask(openai_client, QUESTION, model="ds4-flash")


def test_logprobs_are_those_of_the_answers_tokens(openai_client: openai.OpenAI) -> None:
    answer = ask(openai_client, QUESTION, logprobs=True, top_logprobs=2, reasoning_effort="none")
    found = answer.choices[0].logprobs.content
    assert "".join(token.token for token in found) == answer.choices[0].message.content
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in found)
