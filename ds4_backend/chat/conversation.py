"""A request as the vendor's encoder takes it: our messages become `deepseek_recipe` ones.

Three of the four exceptions to the vendor's bytes (docs/chat.md) are prepared here: call ids in call order, later
system messages in place, tools declared where only history shows them. Knows nothing of prompts as text.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ds4_backend.chat.declare import canonical_tool
from ds4_backend.errors import RequestError
from ds4_backend.types import JsonObject, JsonSchema, Message, Request, ToolCall

if TYPE_CHECKING:
    import deepseek_recipe as recipe

ROLES = ("system", "user", "assistant", "tool")


def check(request: Request) -> None:
    """Refuse what cannot be rendered. Raises RequestError."""
    messages = request.messages
    if not messages:
        raise RequestError("the conversation is empty: send at least one message")
    for number, message in enumerate(messages, 1):
        _check_message(number, message, last=number == len(messages))
    for tool in request.tools:
        _check_name("tool", tool.name)
    if messages[-1].role == "assistant" and not messages[-1].prefix:
        raise RequestError(
            "the last message is a finished assistant turn, so there is nothing to answer: "
            "add a user message, or mark it as a prefix to have it continued"
        )


def countable(request: Request) -> Request:
    """`request`, so that its tokens can be counted where there is nothing to answer, after a finished assistant turn:
    that becomes one to continue, or gets empty results of its calls."""
    *before, last = request.messages or (Message("user"),)
    if last.role != "assistant" or last.prefix:
        return request
    results = [Message("tool", tool_call_id=call.id) for call in last.tool_calls]
    return replace(request, messages=(*before, *([last, *results] if results else [replace(last, prefix=True)])))


def has_tool_traffic(messages: Iterable[Message]) -> bool:
    """Whether the history holds calls or results, with or without declared tools."""
    return any(message.role == "tool" or message.tool_calls for message in messages)


def recipe_messages(messages: Sequence[Message]) -> list[recipe.Message]:
    """Our messages as the encoder's, in the same order. `check` must have passed.

    The encoder moves every system message to the front, so one that comes later goes in as a reminder, which stays
    where it is; `render` then drops the reminder's token. The encoder sorts calls and results by id, so ids are
    replaced by ones that sort in call order. It renders no empty thinking pair where reasoning is None.
    """
    import deepseek_recipe as recipe

    calls = _CallIds(sum(len(message.tool_calls) for message in messages))
    out: list[recipe.Message] = []
    for message in _joined_later_system(messages):
        if message.role == "system":
            leading = all(isinstance(earlier, recipe.SystemMessage) for earlier in out)
            out.append((recipe.SystemMessage if leading else recipe.LatestReminderMessage)(message.content))
        elif message.role == "user":
            out.append(recipe.UserMessage(message.content))
        elif message.role == "tool":
            out.append(recipe.ToolMessage(_escaped_result(message.content), calls.of_result(message.tool_call_id)))
        elif not is_empty_prefix(message):
            replaced = [recipe.ToolCall(id, call.name, call.arguments) for id, call in calls.of_turn(message)]
            out.append(
                recipe.AssistantMessage(message.content, message.reasoning or None, replaced or None, message.prefix)
            )
    return out


def recipe_tools(request: Request) -> list[recipe.ToolDefinition]:
    """The declared tools as the encoder's. Raises RequestError for a schema that is not JSON."""
    import deepseek_recipe as recipe

    out = []
    for tool in request.tools:
        try:
            written = canonical_tool(tool)
            out.append(recipe.ToolDefinition(written.name, written.description, dict(written.parameters)))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise RequestError(f"the parameters of tool {tool.name!r} are not a JSON schema: {error}") from error
    return out


def recipe_format(request: Request) -> dict[str, Any]:
    """The keywords that make the encoder ask for the request's response format; none for a regular expression, which
    the model was never asked for in words. Raises RequestError for a schema that is not JSON."""
    if isinstance(request.response_format, JsonObject):
        return {"response_format": "json_object"}
    if not isinstance(request.response_format, JsonSchema):
        return {}
    schema = request.response_format.schema
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"the schema of the response format is not JSON: {error}") from error
    return {"response_schema": schema if isinstance(schema, bool) else dict(schema)}


class _CallIds:
    """Stand-in ids: `c0000`, `c0001`, ... over the whole conversation, so that string order is call order."""

    def __init__(self, total: int) -> None:
        self._next = itertools.count()
        self._width = max(4, len(str(total)))
        self._turn: dict[str, str] = {}  # the caller's ids of the latest turn with calls -> ours

    def of_turn(self, message: Message) -> list[tuple[str, ToolCall]]:
        """Each call of a turn with its stand-in id."""
        named = [(f"c{next(self._next):0{self._width}d}", call) for call in message.tool_calls]
        if named:
            self._turn = {call.id: id for id, call in reversed(named)}
        return named

    def of_result(self, call_id: str | None) -> str | None:
        """The stand-in id of the call that a result answers; an unknown id counts as the turn's first call."""
        first = min(self._turn.values(), default=None)
        return self._turn.get(call_id or "", first)


def _joined_later_system(messages: Sequence[Message]) -> list[Message]:
    """System messages in a row are one text, as the encoder has it at the front; empty ones say nothing."""
    out: list[Message] = []
    for message in messages:
        if message.role == "system" and not message.content:
            continue
        if message.role == "system" and out and out[-1].role == "system":
            out[-1] = Message("system", f"{out[-1].content}\n\n{message.content}")
        else:
            out.append(message)
    return out


def _escaped_result(text: str) -> str:
    """The frame around a result is ordinary text to the model, so a result must not close it early."""
    return text.replace("</tool_result>", "&lt;/tool_result>")


def is_empty_prefix(message: Message) -> bool:
    """Whether a message marked as a prefix says nothing; it is not rendered, and the answer is opened as any other."""
    return message.prefix and not message.content and not message.reasoning


def _check_message(number: int, message: Message, last: bool) -> None:
    if message.role not in ROLES:
        raise RequestError(f"message {number} has the role {message.role!r}; use {', '.join(ROLES)}")
    if message.prefix and (message.role != "assistant" or not last or message.tool_calls):
        raise RequestError(
            f"message {number} is marked as a prefix; only a last assistant message without calls can be continued"
        )
    for call in message.tool_calls:
        _check_name(f"the call in message {number}", call.name)
        for key in _argument_names(call.arguments):
            if '"' in key:
                raise RequestError(f"message {number} has an argument named {key!r}, with a double quote")


def _check_name(what: str, name: str) -> None:
    """The prompt format has no escape for a quote in a name."""
    if not name or '"' in name:
        raise RequestError(f"{what} has the name {name!r}; a name is not empty and holds no double quote")


def _argument_names(arguments: str) -> Iterable[str]:
    try:
        value: Any = json.loads(arguments)
    except (ValueError, RecursionError):
        return ()  # rendered as one raw text, where a quote does no harm
    return value if isinstance(value, dict) else ()
