"""Agents with the model that is part of the package: prompts that it is known to follow, at temperature 0."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Literal

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import StructuredTool, ToolException
from langchain_ds4 import ChatDS4
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel, Field

from ds4_backend.connect import connect

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
WEATHER = {"sf": "sunny and 18 degrees", "Boston": "windy and 4 degrees", "Paris": "rainy and 9 degrees"}


def get_weather(city: str) -> str:
    "Get the current weather"
    if city not in WEATHER:
        raise ToolException("Error: city not found")
    return WEATHER[city]


def add(a: int, b: int) -> int:
    "Add two numbers"
    return a + b


TOOLS = [StructuredTool.from_function(function, handle_tool_error=True) for function in (get_weather, add)]


class Report(BaseModel):
    """The weather in one city."""

    sky: Literal["sunny", "windy", "rainy"]
    degrees: int = Field(ge=-60, le=60)


def tiny(**options: Any) -> ChatDS4:
    return ChatDS4(model="ds4-tiny", temperature=0, **{"thinking": False, "max_tokens": 200} | options)


def calls(message: BaseMessage) -> list[tuple[str, dict[str, Any]]]:
    assert isinstance(message, AIMessage)
    return [(call["name"], call["args"]) for call in message.tool_calls]


def goes_on_from(before: AIMessage, message: AIMessage) -> bool:
    """Whether the prompt and the answer before were resumed for this one.

    The grammar foresees the tokens that close a block of calls, so these were never read: they do not count.
    """
    usage: Any = message.usage_metadata
    earlier: Any = before.usage_metadata
    return usage["input_token_details"]["cache_read"] >= earlier["total_tokens"] - 8


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("version", ["v0", "v1"])
def test_an_agent_calls_a_tool_and_answers_from_its_result(thinking: bool, version: str) -> None:
    agent = create_agent(tiny(thinking=thinking, output_version=version), TOOLS)
    _, call, result, answer = agent.invoke({"messages": [("user", "what is the weather in sf")]})["messages"]
    assert calls(call) == [("get_weather", {"city": "sf"})]
    assert result.text == WEATHER["sf"]
    assert answer.text == "The weather in sf: sunny and 18 degrees."
    assert goes_on_from(call, answer)


def test_parallel_calls_are_run_together() -> None:
    question = "Weather in Boston? Also: what is the weather in Paris?"
    messages = asyncio.run(create_agent(tiny(), TOOLS).ainvoke({"messages": [("user", question)]}))["messages"]
    assert calls(messages[1]) == [("get_weather", {"city": "Boston"}), ("get_weather", {"city": "Paris"})]
    assert [message.text for message in messages if isinstance(message, ToolMessage)] == [
        WEATHER["Boston"],
        WEATHER["Paris"],
    ]
    assert "windy and 4 degrees" in messages[-1].text and "rainy and 9 degrees" in messages[-1].text


def test_a_tool_that_fails_is_reported() -> None:
    messages = create_agent(tiny(), TOOLS).invoke({"messages": [("user", "what is the weather in Oslo")]})["messages"]
    assert messages[2].status == "error"
    assert messages[-1].text == "The tool get_weather failed: city not found."


def test_tools_that_are_not_needed_are_left_alone() -> None:
    messages = create_agent(tiny(), TOOLS).invoke({"messages": [("user", "Hello!")]})["messages"]
    assert [type(message) for message in messages] == [HumanMessage, AIMessage]
    assert messages[-1].text == "Hello! How can I help you?"


def test_a_conversation_with_a_memory_goes_on_from_the_cache() -> None:
    agent = create_agent(tiny(), TOOLS, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "one"}}
    for question in ("My name is Anna", "what is the weather in sf", "Add 12 and 30", "What is my name?"):
        messages = agent.invoke({"messages": [("user", question)]}, thread)["messages"]
    answers = [message for message in messages if isinstance(message, AIMessage)]
    assert [answer.text for answer in answers[-2:]] == ["The result is 42.", "Your name is Anna."]
    assert all(map(goes_on_from, answers, answers[1:]))


def test_tokens_stream_out_of_an_agent() -> None:
    stream = create_agent(tiny(), TOOLS).stream({"messages": [("user", "Add 12 and 30")]}, stream_mode="messages")
    chunks = [chunk for chunk, _ in stream]
    pieces = [chunk.text for chunk in chunks if isinstance(chunk, AIMessage) and chunk.text]
    assert "".join(pieces) == "The result is 42."
    assert len(pieces) > 3


def test_the_final_answer_of_an_agent_has_the_form_asked_for() -> None:
    agent = create_agent(tiny(), TOOLS, response_format=Report)
    result = agent.invoke({"messages": [("user", "what is the weather in Paris")]}, {"recursion_limit": 8})
    _, call, _, answer = result["messages"]
    assert calls(call) == [("get_weather", {"city": "Paris"})]
    assert result["structured_response"] == Report(sky="rainy", degrees=9)
    assert goes_on_from(call, answer)


def test_a_reasoning_that_the_client_dropped_costs_nothing() -> None:
    connect("ds4-tiny").close()  # forget what other tests left
    model = tiny(thinking=True).bind_tools(TOOLS)
    question = HumanMessage("what is the weather in sf")
    call = model.invoke([question])
    assert call.additional_kwargs["reasoning_content"]
    bare = AIMessage("", tool_calls=call.tool_calls)
    answer = model.invoke([question, bare, ToolMessage(WEATHER["sf"], tool_call_id=call.tool_calls[0]["id"])])
    assert goes_on_from(call, answer)


def test_the_example_runs() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "langchain" / "agent.py")], capture_output=True, text=True, check=True
    )
    assert "The weather in sf: sunny and 18 degrees." in done.stdout
    assert "The result is 42." in done.stdout
    assert "Your name is Anna." in done.stdout
    shares = [int(a) / int(b) for a, b in re.findall(r"\[(\d+) of (\d+) prompt tokens cached\]", done.stdout)]
    assert len(shares) == 6
    assert min(shares[1:]) > 0.9


def test_the_code_in_the_docs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "langchain.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", page, re.MULTILINE)
    code = "\n".join(textwrap.dedent(block) for block in blocks if "pip install" not in block)
    names: dict[str, Any] = {"__name__": "page"}
    exec(code + "\nstate = agent.get_state(thread).values\nanswer = structured.invoke('Paris has 18 degrees.')", names)
    assert "36" in capsys.readouterr().out
    assert names["state"]["messages"][-1].text == "The weather in sf: sunny and 18 degrees."
    assert type(names["answer"]).__name__ == "Weather"
