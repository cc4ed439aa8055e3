"""What a model would say that does as it is told: for the standard tests, which ask for jokes, calls and names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ds4_backend.types import (
    End,
    Event,
    JsonSchema,
    ReasoningDelta,
    Request,
    TextDelta,
    Tool,
    ToolCallDelta,
    ToolCallStart,
    Usage,
)

USAGE = Usage(input=20, cached=16, output=9, reasoning=3)


def obey(request: Request) -> Iterable[Event]:
    """Thinks, then calls the tool it is given, fills in the form it is given, or says hello."""
    yield ReasoningDelta("Let me ")
    yield ReasoningDelta("see.")
    tool = _tool_to_call(request)
    if tool:
        yield from _call(tool, request)
    elif isinstance(request.response_format, JsonSchema):
        text = json.dumps(_value(request.response_format.schema, request.messages[-1].content))
        yield from (TextDelta(text[start : start + 7]) for start in range(0, len(text), 7))
    else:
        yield from (TextDelta("Hello "), TextDelta("to you."))
    yield End("tool_calls" if tool else "stop", USAGE)


def _tool_to_call(request: Request) -> Tool | None:
    if request.messages[-1].role == "tool" and request.tool_choice == "auto":
        return None
    wanted = [tool for tool in request.tools if request.tool_choice in ("auto", "required", tool.name)]
    return wanted[0] if wanted else None


def _call(tool: Tool, request: Request) -> Iterable[Event]:
    arguments = json.dumps(_value(tool.parameters, request.messages[-1].content), ensure_ascii=False)
    yield ToolCallStart(0, "call_1", tool.name)
    yield from (ToolCallDelta(0, arguments[start : start + 5]) for start in range(0, len(arguments), 5))


def _value(schema: Any, text: str) -> Any:
    """Something that `schema` allows, taken from `text` where it can be."""
    if "anyOf" in schema:
        return _value(schema["anyOf"][0], text)
    if schema.get("type") == "object":
        return {name: _value(inner, text) for name, inner in _properties(schema).items()}
    if schema.get("type") == "integer":
        return int((re.findall(r"\d+", text) or ["1"])[0])
    return (re.findall(r"'(.+?)'", text) or [text])[0]


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return schema.get("properties", {})
