"""One conversation through four hosts: llm, a LangChain agent, and LiteLLM's proxy with two SDKs.

Each sends the whole conversation in its own form, without the thinking, with the same two functions as tools. Each has
to find it read already, by its own usage fields: in the resident host's memory, and, where the host was stopped in
between, on the disk.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import relay_tools
from relay_home import KEY, stop

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "relay"))

from carry import Messages, from_llm, to_anthropic

pytestmark = pytest.mark.slow

LINES = 1000
"""Of the system text: some 26,000 tokens. The disk's state of a conversation ends up to 255 tokens before the
conversation does, and that has to be less than one percent."""
TOOLS: dict[str, Callable[..., Any]] = {"get_weather": relay_tools.get_weather, "add": relay_tools.add}


@dataclass(frozen=True)
class Told:
    """What a host says of one request: tokens of the prompt, of these from the cache and from the disk, and of the
    answer; `disk` is None where it has no field for it."""

    host: str
    prompt: int
    cached: int
    output: int
    disk: int | None
    why: Any = None


@dataclass
class Conversation:
    """In OpenAI's form, and what was told of each request so far."""

    messages: Messages
    told: list[Told]

    def hop(self, requests: list[Told], tier: str) -> None:
        """Hold the first request of a hop against the last one before it."""
        before, first = self.told[-1], requests[0]
        so_far = before.prompt + before.output
        assert first.cached >= 0.99 * so_far, (before, first)
        assert first.disk in (None, first.cached if tier == "disk" else 0), first
        assert len(requests) == 2, requests  # a call, and an answer to its result
        assert requests[1].cached >= 0.99 * first.prompt
        self.told += requests


@pytest.mark.parametrize("tier", ["memory", "disk"])
def test_a_conversation_goes_on_in_any_host(
    tier: str, home: Path, proxy: Callable[[], str], llm: Callable[..., str]
) -> None:
    between: Callable[[], None] = stop if tier == "disk" else lambda: None
    notes = home / f"{tier}.txt"
    notes.write_text(_notes(tier))
    talk = Conversation([], [])
    talk.told += _in_llm(llm, talk, "-m", "ds4-tiny", "--sf", str(notes), "what is the weather in sf")
    assert talk.told[0].cached < 200 and talk.told[0].prompt > 16_000
    for hop in (
        lambda: _in_llm(llm, talk, "-c", "Add 12 and 30"),
        lambda: _in_langchain(talk, "what is the weather in Paris"),
        lambda: _with_openai(proxy(), talk, "Add 7 and 8"),
        lambda: _with_anthropic(proxy(), talk, "what is the weather in sf"),
    ):
        between()
        talk.hop(hop(), tier)
    roles = [message["role"] for message in talk.messages]
    assert roles.count("user") == 5 and roles.count("tool") >= 5 and roles[-1] == "assistant"
    assert not any("reason" in key or "think" in key for message in talk.messages for key in message)


def _notes(title: str) -> str:
    lines = [f"Entry {n}: the sum of {n} and {n * 7 % 1000} is {n + n * 7 % 1000}." for n in range(LINES)]
    return "\n".join([f"Notes of the {title} conversation.", *lines])


def _in_llm(llm: Callable[..., str], talk: Conversation, *words: str) -> list[Told]:
    """In the terminal: llm runs the tools itself, and everything is taken from its log."""
    llm("--functions", relay_tools.__file__, "-o", "temperature", "0", *words)
    logs = json.loads(llm("logs", "-c", "--json", "-n", "0"))
    talk.messages = from_llm(logs)
    assert all(entry["reasoning"] for entry in logs)  # the model thought, and that is not in the messages
    return [
        Told(
            "llm",
            entry["input_tokens"],
            json.loads(entry["token_details"]).get("cached", 0),
            entry["output_tokens"],
            entry["response_json"]["usage"]["cached_disk"],
            entry["response_json"]["cache"],
        )
        for entry in logs[-2:]
    ]


def _in_langchain(talk: Conversation, question: str) -> list[Told]:
    """In an agent of LangChain."""
    from langchain.agents import create_agent
    from langchain_core.messages import AIMessage, convert_to_openai_messages
    from langchain_ds4 import ChatDS4

    agent = create_agent(ChatDS4(model="ds4-tiny", temperature=0), list(TOOLS.values()))
    asked = [*talk.messages, {"role": "user", "content": question}]
    given: Any = {"messages": asked}
    messages = agent.invoke(given)["messages"]
    talk.messages = convert_to_openai_messages(messages)
    answers = [message for message in messages[len(asked) :] if isinstance(message, AIMessage)]
    return [_told_by_langchain(answer) for answer in answers]


def _told_by_langchain(answer: Any) -> Told:
    usage, metadata = answer.usage_metadata, answer.response_metadata
    cached = usage["input_token_details"]["cache_read"]
    disk = metadata["usage"]["cached_disk"]
    return Told("langchain", usage["input_tokens"], cached, usage["output_tokens"], disk, metadata["cache"])


def _with_openai(proxy: str, talk: Conversation, question: str) -> list[Told]:
    """Through the proxy with OpenAI's SDK, in a loop as its users write it."""
    from langchain_core.utils.function_calling import convert_to_openai_tool

    client = import_module("openai").OpenAI(base_url=f"{proxy}/v1", api_key=KEY, max_retries=0)
    tools = [convert_to_openai_tool(function) for function in TOOLS.values()]
    talk.messages = [*talk.messages, {"role": "user", "content": question}]
    told = []
    while talk.messages[-1]["role"] != "assistant":
        answer = client.chat.completions.create(model="ds4-tiny", messages=talk.messages, tools=tools, temperature=0)
        told.append(_told_by_openai(answer))
        message = answer.choices[0].message
        calls = [call.model_dump() for call in message.tool_calls or ()]
        said = {"role": "assistant", "content": message.content} | ({"tool_calls": calls} if calls else {})
        results = [_result(call["id"], call["function"]) for call in calls]
        talk.messages = [*talk.messages, said, *results]
    return told


def _told_by_openai(answer: Any) -> Told:
    usage = answer.usage
    report = answer.choices[0].message.provider_specific_fields["ds4"]
    cached = usage.prompt_tokens_details.cached_tokens
    return Told("openai", usage.prompt_tokens, cached, usage.completion_tokens, report["cached_disk"], report["cache"])


def _result(id: str, function: dict[str, Any]) -> dict[str, Any]:
    value = TOOLS[function["name"]](**json.loads(function["arguments"]))
    return {"role": "tool", "tool_call_id": id, "content": str(value)}


def _with_anthropic(proxy: str, talk: Conversation, question: str) -> list[Told]:
    """Through the proxy with Anthropic's SDK; its blocks are kept in OpenAI's form as well, for the test to look at."""
    import llm

    client = import_module("anthropic").Anthropic(base_url=proxy, api_key=KEY, max_retries=0)
    made = [llm.Tool.function(function) for function in TOOLS.values()]
    tools = [{"name": t.name, "description": t.description, "input_schema": t.input_schema} for t in made]
    talk.messages = [*talk.messages, {"role": "user", "content": question}]
    told = []
    while talk.messages[-1]["role"] != "assistant":
        answer = client.messages.create(
            model="ds4-tiny", max_tokens=300, tools=tools, extra_body={"temperature": 0}, **to_anthropic(talk.messages)
        )
        told.append(_told_by_anthropic(answer))
        text = "".join(block.text for block in answer.content if block.type == "text")
        uses = [block for block in answer.content if block.type == "tool_use"]
        calls = [_as_call(use) for use in uses]
        said = {"role": "assistant", "content": text} | ({"tool_calls": calls} if calls else {})
        results = [_result(call["id"], call["function"]) for call in calls]
        talk.messages = [*talk.messages, said, *results]
    return told


def _told_by_anthropic(answer: Any) -> Told:
    """Its `input_tokens` are those that were not cached."""
    usage = answer.usage
    cached = usage.cache_read_input_tokens
    return Told("anthropic", usage.input_tokens + cached, cached, usage.output_tokens, None)


def _as_call(use: Any) -> dict[str, Any]:
    function = {"name": use.name, "arguments": json.dumps(use.input)}
    return {"id": use.id, "type": "function", "function": function}
