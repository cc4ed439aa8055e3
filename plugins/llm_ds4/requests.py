"""From llm's prompt to a core `Request`. Reads `prompt.messages` only: that is the whole conversation."""

from __future__ import annotations

import itertools
import json
from collections import deque
from typing import Any

import llm
from llm.parts import AttachmentPart, ReasoningPart, TextPart, ToolCallPart, ToolResultPart

from ds4_backend.chat.parameters import request_with
from ds4_backend.errors import RequestError, UnsupportedContent
from ds4_backend.types import Message, Request, ToolCall


def to_request(prompt: llm.Prompt) -> Request:
    """The request that `prompt` asks for. Raises UnsupportedContent for attachments."""
    ids = _Ids()
    messages = tuple(message for each in prompt.messages for message in _messages(each, ids))
    given = dict(prompt.options)
    alternatives = given.pop("logprobs")
    if alternatives is not None:
        given |= {"logprobs": True, "top_logprobs": alternatives}
    tools = [{"name": t.name, "description": t.description, "parameters": t.input_schema} for t in prompt.tools]
    return request_with(messages, given | {"tools": tools, "response_format": _response_format(prompt)})


def _response_format(prompt: llm.Prompt) -> dict[str, Any] | None:
    """A schema, or one of the two options. Raises RequestError for more than one."""
    options: Any = prompt.options
    wished: dict[str, dict[str, Any]] = {}
    if prompt.schema:
        wished["a schema"] = {"type": "json_schema", "schema": prompt.schema}
    if options.json_object:
        wished["json_object"] = {"type": "json_object"}
    if options.regex is not None:
        wished["regex"] = {"type": "regex", "pattern": options.regex}
    if len(wished) > 1:
        raise RequestError(f"{' and '.join(wished)} each say what the whole answer is: leave all but one out")
    return next(iter(wished.values()), None)


class _Ids:
    """Ids for calls that come without one (from other models' turns); their results follow in the same order."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._open: deque[str] = deque()

    def of_call(self, id: str | None) -> str:
        if id is None:
            id = f"llm_{next(self._numbers)}"
            self._open.append(id)
        return id

    def of_result(self, id: str | None) -> str | None:
        return self._open.popleft() if id is None and self._open else id


def _messages(message: llm.Message, ids: _Ids) -> list[Message]:
    _refuse_attachments(message)
    text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
    if message.role == "tool":
        return [_result(part, ids) for part in message.parts if isinstance(part, ToolResultPart)]
    if message.role != "assistant":
        return [Message(message.role, text)]  # type: ignore[arg-type]  # the engine refuses an unknown role by name
    reasoning = "".join(part.text for part in message.parts if isinstance(part, ReasoningPart))
    calls = tuple(_call(part, ids) for part in message.parts if isinstance(part, ToolCallPart))
    return [Message("assistant", text, reasoning or None, calls)]


def _call(part: ToolCallPart, ids: _Ids) -> ToolCall:
    return ToolCall(ids.of_call(part.tool_call_id), part.name, json.dumps(part.arguments, ensure_ascii=False))


def _result(part: ToolResultPart, ids: _Ids) -> Message:
    return Message("tool", part.output or part.exception or "", tool_call_id=ids.of_result(part.tool_call_id))


def _refuse_attachments(message: llm.Message) -> None:
    attached = [part.attachment for part in message.parts if isinstance(part, AttachmentPart)]
    for part in message.parts:
        if isinstance(part, ToolResultPart):
            attached += part.attachments
    if attached:
        kinds = ", ".join(sorted({_kind(attachment) for attachment in attached}))
        raise UnsupportedContent(
            f"DeepSeek V4 reads text only; the {message.role} message has an attachment ({kinds}). "
            "Give text files as fragments: -f FILE"
        )


def _kind(attachment: llm.Attachment | None) -> str:
    return (attachment and (attachment.type or attachment.path or attachment.url)) or "of unknown type"
