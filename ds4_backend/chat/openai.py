"""Conversations in OpenAI's form (lists of dicts, as in JSON files and most frameworks) as our types.

Takes what clients really send: parts instead of a string, `developer` and `function` roles, arguments already
parsed, reasoning under either of its names. Knows no prompt format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from ds4_backend.errors import RequestError, UnsupportedContent
from ds4_backend.types import Message, Request, Role, Tool, ToolCall

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
TEXT_PARTS = ("text", "input_text", "output_text")


def request_from_openai(
    messages: Iterable[Mapping[str, Any]], tools: Iterable[Mapping[str, Any]] = (), **options: Any
) -> Request:
    """A `Request` from OpenAI-form messages and tools; `options` are its other fields.

    Tools may also stand on a system message, as the checkpoint's own examples have them. Raises RequestError for what
    is not in that form, and UnsupportedContent for parts that are not text.
    """
    listed = list(messages)
    attached = [
        tool
        for number, message in enumerate(listed, 1)
        if isinstance(message, Mapping)
        for tool in _list(message.get("tools"), f"message {number}: tools")
    ]
    return Request(messages_from_openai(listed), tools_from_openai([*tools, *attached]), **options)


def messages_from_openai(messages: Iterable[Mapping[str, Any]]) -> tuple[Message, ...]:
    """OpenAI-form messages as ours. Raises as `request_from_openai`."""
    return tuple(_message(number, message) for number, message in enumerate(messages, 1))


def tools_from_openai(tools: Iterable[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """OpenAI-form tools, `{"type": "function", "function": {...}}` or the inner object alone, as ours."""
    return tuple(_tool(number, tool) for number, tool in enumerate(tools, 1))


def _message(number: int, message: Mapping[str, Any]) -> Message:
    where = f"message {number}"
    _expect(isinstance(message, Mapping), f"{where} is not an object")
    role = message.get("role")
    _expect(role in ROLES, f"{where} has the role {role!r}; use {', '.join(ROLES)}")
    content = _text(message.get("content"), where)
    if ROLES[cast(str, role)] != "assistant":
        return Message(ROLES[cast(str, role)], content, tool_call_id=message.get("tool_call_id") or message.get("name"))
    reasoning = message.get("reasoning_content", message.get("reasoning"))
    _expect(reasoning is None or isinstance(reasoning, str), f"{where}: the reasoning is not a string")
    prefix = bool(message.get("prefix") or message.get("wo_eos"))
    return Message("assistant", content, reasoning, _calls(message, where), prefix=prefix)


def _text(content: Any, where: str) -> str:
    """A string as it is; text parts joined by a blank line, as the vendor's request conversion joins them."""
    if content is None or isinstance(content, str):
        return content or ""
    parts = _list(content, f"{where}: the content is no string and")
    return "\n\n".join(_part(part, f"{where}, part {n}") for n, part in enumerate(parts, 1))


def _part(part: Any, where: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if kind not in TEXT_PARTS:
        raise UnsupportedContent(f"{where} is of type {kind!r}; this model reads text only: leave it out")
    _expect(isinstance(part.get("text"), str), f"{where} has no text")
    return part["text"]


def _calls(message: Mapping[str, Any], where: str) -> tuple[ToolCall, ...]:
    calls = _list(message.get("tool_calls"), f"{where}: tool_calls")
    if legacy := message.get("function_call"):  # answered by a `function` message, which names the function only
        _expect(isinstance(legacy, Mapping), f"{where}: function_call is not an object")
        calls = [*calls, {"id": legacy.get("name"), "function": legacy}]
    return tuple(_call(call, f"{where}, call {number}") for number, call in enumerate(calls, 1))


def _call(call: Any, where: str) -> ToolCall:
    function: Any = call.get("function") if isinstance(call, Mapping) else None
    _expect(isinstance(function, Mapping), f"{where} is not a function call")
    name, arguments = function.get("name"), function.get("arguments")
    _expect(isinstance(name, str), f"{where} has no function name")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(str(call.get("id") or ""), name, arguments)


def _tool(number: int, tool: Any) -> Tool:
    where = f"tool {number}"
    _expect(isinstance(tool, Mapping), f"{where} is not an object")
    _expect(tool.get("type", "function") == "function", f"{where} is of type {tool.get('type')!r}; use 'function'")
    function = tool.get("function", tool)
    _expect(isinstance(function, Mapping) and isinstance(function.get("name"), str), f"{where} has no function name")
    parameters = function.get("parameters") or {}
    _expect(isinstance(parameters, Mapping), f"{where}: parameters is not an object")
    return Tool(function["name"], function.get("description") or "", parameters)


def _list(value: Any, where: str) -> list[Any]:
    _expect(value is None or isinstance(value, list | tuple), f"{where} is not a list")
    return list(value or ())


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        raise RequestError(problem)
