"""Conversations carried from llm's log into other forms: nothing that the model sees is lost or changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from ds4_backend.chat.openai import messages_from_openai
from ds4_backend.types import Message, ToolCall

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "relay" / "carry.py"


def entry(prompt: str = "", response: str = "", **more: Any) -> dict[str, Any]:
    """One of `llm logs --json`, as far as it is looked at."""
    known = {"system": "Be brief.", "prompt": prompt, "response": response, "tool_calls": [], "tool_results": []}
    return known | more


LOGS = [
    entry("Weather in Oslo?", tool_calls=[{"tool_call_id": "a", "name": "get_weather", "arguments": {"city": "Oslo"}}]),
    entry(response="Rain.", tool_results=[{"tool_call_id": "a", "name": "get_weather", "output": "rainy"}]),
    entry("Thanks", "Welcome."),
]


def carried(*options: str) -> Any:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options], input=json.dumps(LOGS), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_llms_log_becomes_the_conversation_in_openais_form() -> None:
    assert messages_from_openai(carried()) == (
        Message("system", "Be brief."),
        Message("user", "Weather in Oslo?"),
        Message("assistant", "", tool_calls=(ToolCall("a", "get_weather", '{"city": "Oslo"}'),)),
        Message("tool", "rainy", tool_call_id="a"),
        Message("assistant", "Rain."),
        Message("user", "Thanks"),
        Message("assistant", "Welcome."),
    )


def test_and_in_anthropics() -> None:
    given = carried("--anthropic")
    assert given["system"] == "Be brief."
    assert [turn["role"] for turn in given["messages"]] == ["user", "assistant"] * 3
    assert given["messages"][1]["content"] == [
        {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Oslo"}}
    ]
    assert given["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": "a", "content": "rainy"}]
