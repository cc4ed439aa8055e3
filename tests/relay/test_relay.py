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
KEPT = {"role", "name", "content", "tool_calls", "tool_call_id"}
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
        assert requests[1].cached > first.prompt + first.output // 2, requests  # the call was found as it was written
        self.told += requests


@pytest.mark.parametrize("tier", ["memory", "disk"])
def test_a_conversation_goes_on_in_any_host(
    tier: str, home: Path, proxy: Callable[[], str], llm: Callable[..., str]
) -> None:
    between: Callable[[], None] = stop if tier == "disk" else lambda: None
    notes = home / f"{tier}.txt"
    notes.write_text(_notes(tier, LINES))
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
        assert {key for message in talk.messages for key in message} <= KEPT  # the thinking is not carried over
        talk.hop(hop(), tier)


def test_every_host_says_where_a_prompt_left_what_was_stored(
    home: Path, proxy: Callable[[], str], llm: Callable[..., str]
) -> None:
    """A word that somebody changed in the middle of the system text."""
    text = _notes("changed", 60)
    _ask_llm(llm, proxy, text)
    for entry, (host, ask) in enumerate(
        {"llm": _ask_llm, "langchain": _ask_langchain, "openai": _ask_openai}.items(), 40
    ):
        stop()  # what is queued for the disk is written
        said = ask(llm, proxy, text.replace(f"Entry {entry}: the sum", f"Entry {entry}: the {host}"))["diverged"]
        assert 800 < said["at"] < 1200
        assert "sum" in said["stored"] and host not in said["stored"] and host in said["wanted"], said


def _ask_llm(llm: Callable[..., str], proxy: Callable[[], str], system: str) -> Any:
    llm("-m", "ds4-tiny", "-o", "temperature", "0", "-s", system, "Hello!")
    return json.loads(llm("logs", "-c", "--json"))[-1]["response_json"]["cache"]


def _ask_langchain(llm: Callable[..., str], proxy: Callable[[], str], system: str) -> Any:
    from langchain_ds4 import ChatDS4

    answer = ChatDS4(model="ds4-tiny", temperature=0).invoke([("system", system), ("user", "Hello!")])
    return answer.response_metadata["cache"]


def _ask_openai(llm: Callable[..., str], proxy: Callable[[], str], system: str) -> Any:
    client = import_module("openai").OpenAI(base_url=f"{proxy()}/v1", api_key=KEY, max_retries=0)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Hello!"}]
    answer = client.chat.completions.create(model="ds4-tiny", messages=messages, temperature=0)
    return answer.choices[0].message.provider_specific_fields["ds4"]["cache"]


def _notes(title: str, lines: int) -> str:
    entries = [f"Entry {n}: the sum of {n} and {n * 7 % 1000} is {n + n * 7 % 1000}." for n in range(lines)]
    return "\n".join([f"Notes of the {title} conversation.", *entries])


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
    """Through the proxy with OpenAI's SDK, in a loop as its users write it: the model's messages go back as they came,
    with the thinking."""
    from langchain_core.utils.function_calling import convert_to_openai_tool

    client = import_module("openai").OpenAI(base_url=f"{proxy}/v1", api_key=KEY, max_retries=0)
    tools = [convert_to_openai_tool(function) for function in TOOLS.values()]
    sent: list[Any] = [*talk.messages, {"role": "user", "content": question}]
    told: list[Told] = []
    while not told or sent[-1]["role"] == "tool":
        answer = client.chat.completions.create(model="ds4-tiny", messages=sent, tools=tools, temperature=0)
        told.append(_told_by_openai(answer))
        message = answer.choices[0].message.model_dump(exclude_none=True)
        assert message["reasoning_content"]
        sent += [message, *map(_result, message.get("tool_calls", ()))]
    talk.messages = [{key: value for key, value in message.items() if key in KEPT} for message in sent]
    return told


def _told_by_openai(answer: Any) -> Told:
    usage = answer.usage
    report = answer.choices[0].message.provider_specific_fields["ds4"]
    cached = usage.prompt_tokens_details.cached_tokens
    return Told("openai", usage.prompt_tokens, cached, usage.completion_tokens, report["cached_disk"], report["cache"])


def _result(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    value = TOOLS[function["name"]](**json.loads(function["arguments"]))
    return {"role": "tool", "tool_call_id": call["id"], "content": str(value)}


def _with_anthropic(proxy: str, talk: Conversation, question: str) -> list[Told]:
    """Through the proxy with Anthropic's SDK, in a loop of the same kind."""
    import llm

    client = import_module("anthropic").Anthropic(base_url=proxy, api_key=KEY, max_retries=0)
    made = [llm.Tool.function(function) for function in TOOLS.values()]
    tools = [{"name": t.name, "description": t.description, "input_schema": t.input_schema} for t in made]
    given = to_anthropic([*talk.messages, {"role": "user", "content": question}])
    told: list[Told] = []
    while not told or given["messages"][-1]["role"] == "user":
        answer = client.messages.create(
            model="ds4-tiny", max_tokens=300, tools=tools, extra_body={"temperature": 0}, **given
        )
        told.append(_told_by_anthropic(answer))
        assert any(block.type == "thinking" for block in answer.content)
        given["messages"].append({"role": "assistant", "content": answer.content})
        results = [_tool_result(block) for block in answer.content if block.type == "tool_use"]
        given["messages"] += [{"role": "user", "content": results}] if results else []
    return told


def _told_by_anthropic(answer: Any) -> Told:
    """Its `input_tokens` are those that were not cached."""
    usage = answer.usage
    cached = usage.cache_read_input_tokens
    return Told("anthropic", usage.input_tokens + cached, cached, usage.output_tokens, None)


def _tool_result(use: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": use.id, "content": str(TOOLS[use.name](**use.input))}
