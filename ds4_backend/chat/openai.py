"""Conversations and options in OpenAI's form (dicts and lists, as in JSON files and most frameworks) as our types.

Takes what clients really send: parts instead of a string, `developer` and `function` roles, arguments already
parsed, reasoning under any of its names, a tool choice in any of its spellings. Knows no prompt format.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from ds4_backend.errors import RequestError, UnsupportedContent
from ds4_backend.types import JsonObject, JsonSchema, Message, Regex, Request, ResponseFormat, Role, Tool, ToolCall

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
OPEN = {
    "additionalProperties", "patternProperties", "unevaluatedProperties", "$ref", "allOf", "anyOf", "oneOf", "if",
}  # fmt: skip
"""Where one of these is there too, the schema says itself which other keys there may be."""
TEXT_PARTS = ("text", "input_text", "output_text")
REASONING_PARTS = ("reasoning", "thinking")
"""Their text stands under their own name."""
CALL_PARTS = (
    "tool_use", "tool_call", "tool_call_chunk", "invalid_tool_call", "input_json_delta", "function_call",
)  # fmt: skip
"""Passed over where the message has `tool_calls` too, if only an empty list: they say it again, or were cut short."""
TOOL_CHOICES = {"auto": "auto", "none": "none", "required": "required", "any": "required"}
RESPONSE_FORMATS = ("text", "json_object", "json_schema", "regex")


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


def tool_choice_from_openai(value: Any) -> str:
    """`Request.tool_choice` from OpenAI's `tool_choice`, or what frameworks make of it.

    `any` and True mean `required`; nothing and False mean `auto`. A tool is named by an object, `{"type": "function",
    "function": {"name": ...}}` or its flatter forms, or by its bare name. Raises RequestError for anything else.
    """
    if value is None or isinstance(value, bool):
        return "required" if value else "auto"
    if isinstance(value, str):
        _expect(value != "", "tool_choice is empty; use auto, none, required, or the name of a tool")
        return TOOL_CHOICES.get(value, value)
    kind = value.get("type", "function") if isinstance(value, Mapping) else None
    if isinstance(kind, str) and kind in TOOL_CHOICES:
        return TOOL_CHOICES[kind]
    _expect(kind in ("function", "tool"), f"tool_choice is {value!r}; use auto, none, required, or name a function")
    inner = value.get("function", value)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    _expect(isinstance(name, str) and name != "", f"tool_choice {value!r} names no function")
    return cast(str, name)


def response_format_from_openai(value: Any) -> ResponseFormat | None:
    """`Request.response_format` from OpenAI's `response_format`; None for plain text.

    `{"type": "json_schema", "json_schema": {"schema": ...}}`, or `schema` beside `type`; `{"type": "json_object"}`;
    our own `{"type": "regex", "pattern": ...}`. A schema always holds, whatever `strict` says. A pydantic model class
    stands for its schema. Raises RequestError for anything else.
    """
    if value is None:
        return None
    if isinstance(value, type) and hasattr(value, "model_json_schema"):
        return closed(JsonSchema(value.model_json_schema()))
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind not in RESPONSE_FORMATS:
        raise RequestError(f"response_format is {value!r}; use an object whose type is {', '.join(RESPONSE_FORMATS)}")
    if kind == "regex":
        _expect(isinstance(value.get("pattern"), str), "response_format of type regex has no pattern")
        return Regex(value["pattern"])
    if kind == "json_schema":
        return closed(JsonSchema(_schema(value.get("json_schema", value))))
    return JsonObject() if kind == "json_object" else None


def closed(wanted: JsonSchema) -> JsonSchema:
    """No keys but those named, where the schema leaves that open; left open, a model may add keys without end. Whoever
    wants more keys says `additionalProperties`."""
    schema = wanted.schema
    if isinstance(schema, Mapping) and "properties" in schema and not OPEN & schema.keys():
        return JsonSchema({**schema, "additionalProperties": False})
    return wanted


def parallel_tool_calls_from_openai(value: Any) -> bool:
    """`Request.parallel_tool_calls`: true or false, and true where nothing is said. Raises RequestError otherwise."""
    _expect(value is None or isinstance(value, bool), f"parallel_tool_calls is {value!r}; use true or false")
    return value is not False


def stop_from_openai(value: Any) -> tuple[str, ...]:
    """`Request.stop` from a string, a list of strings, or nothing. Raises RequestError for anything else."""
    if value is None:
        return ()
    listed = [value] if isinstance(value, str) else value
    good = isinstance(listed, list | tuple) and all(isinstance(stop, str) and stop for stop in listed)
    _expect(good, f"stop is {value!r}; use a string or a list of strings, none of them empty")
    return tuple(listed)


def _message(number: int, message: Mapping[str, Any]) -> Message:
    where = f"message {number}"
    _expect(isinstance(message, Mapping), f"{where} is not an object")
    role = message.get("role")
    _expect(role in ROLES, f"{where} has the role {role!r}; use {', '.join(ROLES)}")
    if ROLES[cast(str, role)] != "assistant":
        content = _text(message.get("content"), where)
        return Message(ROLES[cast(str, role)], content, tool_call_id=message.get("tool_call_id") or message.get("name"))
    calls = _calls(message, where)
    content, thoughts = _turn(message.get("content"), where, bool(calls) or message.get("tool_calls") is not None)
    reasoning = message.get("reasoning_content", message.get("reasoning"))
    if not reasoning:  # gateways hand Anthropic's blocks on beside the content, frameworks keep them in it
        reasoning = _turn(message.get("thinking_blocks"), where)[1] or thoughts or reasoning
    _expect(reasoning is None or isinstance(reasoning, str), f"{where}: the reasoning is not a string")
    prefix = bool(message.get("prefix") or message.get("wo_eos"))
    return Message("assistant", content, reasoning, calls, prefix=prefix)


def _turn(content: Any, where: str, calls_apart: bool = True) -> tuple[str, str]:
    """An assistant's text and reasoning. The text parts are pieces of one text, as the model wrote it."""
    text: list[str] = []
    reasoning: list[str] = []
    parts = [content or ""] if content is None or isinstance(content, str) else content
    for n, part in enumerate(_list(parts, f"{where}: the content is no string and"), 1):
        kind = str(part.get("type")) if isinstance(part, Mapping) else ""
        if kind in REASONING_PARTS:
            reasoning.append(part.get(kind) or "")
            _expect(isinstance(reasoning[-1], str), f"{where}, part {n}: the reasoning is not a string")
        elif kind != "redacted_thinking" and not (calls_apart and kind in CALL_PARTS):
            text.append(_part(part, f"{where}, part {n}"))
    return "".join(text), "".join(reasoning)


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


def _schema(holder: Any) -> Mapping[str, Any] | bool:
    schema = holder.get("schema") if isinstance(holder, Mapping) else None
    _expect(isinstance(schema, Mapping | bool), "response_format of type json_schema has no schema, which is an object")
    return cast(Mapping[str, Any], schema)


def _list(value: Any, where: str) -> list[Any]:
    _expect(value is None or isinstance(value, list | tuple), f"{where} is not a list")
    return list(value or ())


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        raise RequestError(problem)
