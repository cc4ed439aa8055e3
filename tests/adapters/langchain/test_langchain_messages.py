"""LangChain's messages as the core's: text to the letter, calls as JSON values, reasoning wherever it stands."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_ds4.messages import to_messages

from ds4_backend.errors import RequestError, UnsupportedContent
from ds4_backend.types import Message, ToolCall

TEXT = " two  spaces,\ttab,\r\nline\n\n你好 \\n \u00e9 <｜User｜> "
CALL: Any = {"name": "add", "args": {"b": 1.0, "a": [None, "你好"]}, "id": "call_a", "type": "tool_call"}


def test_text_goes_over_to_the_letter() -> None:
    messages = [SystemMessage(TEXT), HumanMessage(TEXT), AIMessage(TEXT), ToolMessage(TEXT, tool_call_id="x")]
    assert [message.content for message in to_messages(messages)] == [TEXT] * 4


def test_roles_are_told_apart() -> None:
    messages = [
        SystemMessage("a"),
        HumanMessage("b", name="Ada"),
        AIMessage("c"),
        ToolMessage("d", tool_call_id="call_a", status="error"),
        ChatMessage("e", role="developer"),
        FunctionMessage("f", name="add"),
    ]
    assert to_messages(messages) == (
        Message("system", "a"),
        Message("user", "b"),
        Message("assistant", "c"),
        Message("tool", "d", tool_call_id="call_a"),
        Message("system", "e"),
        Message("tool", "f", tool_call_id="add"),
    )


def test_a_role_that_nobody_knows_is_refused() -> None:
    with pytest.raises(RequestError, match="message 1 has the role 'critic'"):
        to_messages([ChatMessage("no", role="critic")])


def test_calls_keep_their_values_and_their_script() -> None:
    (message,) = to_messages([AIMessage("", tool_calls=[CALL])])
    (call,) = message.tool_calls
    assert (call.id, call.name) == ("call_a", "add")
    assert json.loads(call.arguments) == CALL["args"]
    assert "你好" in call.arguments


def test_a_call_that_never_was_complete_stays_out() -> None:
    cut = {"name": "add", "args": '{"a": 1', "id": "call_a", "error": None, "type": "invalid_tool_call"}
    (message,) = to_messages([AIMessage("Well.", invalid_tool_calls=[cut])])
    assert message == Message("assistant", "Well.")


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("Hi.", additional_kwargs={"reasoning_content": "Be kind."}),
        AIMessage([{"type": "reasoning", "reasoning": "Be "}, {"type": "reasoning", "reasoning": "kind."}, "Hi."]),
        AIMessage([{"type": "thinking", "thinking": "Be kind.", "signature": "x"}, {"type": "text", "text": "Hi."}]),
        AIMessage(
            content_blocks=[
                {"type": "non_standard", "value": {"type": "thinking", "thinking": "Be kind."}},
                {"type": "text", "text": "Hi."},
            ]
        ),
        AIMessageChunk("Hi.", additional_kwargs={"reasoning_content": "Be kind."}, chunk_position="last"),
        AIMessage(
            [{"type": "reasoning", "reasoning": "Be kind."}, {"type": "text", "text": "Hi."}],
            additional_kwargs={"reasoning_content": "Be kind."},
            response_metadata={"output_version": "v1"},
        ),
    ],
    ids=["v0", "v1", "anthropic", "non-standard", "chunk", "both"],
)
def test_reasoning_is_found_in_every_form_and_once(message: AIMessage) -> None:
    assert to_messages([message]) == (Message("assistant", "Hi.", reasoning="Be kind."),)


def test_call_blocks_are_not_content() -> None:
    blocks: Any = [
        {"type": "text", "text": "Let me "},
        {"type": "text", "text": "see."},
        {"type": "tool_use", "id": "call_a", "name": "add", "input": {}},
        {"type": "tool_call", "id": "call_a", "name": "add", "args": {}},
    ]
    (message,) = to_messages([AIMessage(blocks, tool_calls=[CALL | {"args": {}}])])
    assert message == Message("assistant", "Let me see.", tool_calls=(ToolCall("call_a", "add", "{}"),))


def test_parts_of_a_users_message_are_joined_as_in_the_other_front_ends() -> None:
    parts: Any = ["one", {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}}]
    assert to_messages([HumanMessage(parts)]) == (Message("user", "one\n\ntwo"),)


@pytest.mark.parametrize("kind", [HumanMessage, AIMessage])
def test_a_picture_is_refused_by_its_place(kind: type[HumanMessage | AIMessage]) -> None:
    picture = {"type": "image", "base64": "aGk=", "mime_type": "image/png"}
    with pytest.raises(UnsupportedContent, match="message 2, part 2 is of type 'image'; this model reads text only"):
        to_messages([HumanMessage("hi"), kind([{"type": "text", "text": "look"}, picture])])


def test_a_turn_can_be_marked_to_be_continued() -> None:
    (message,) = to_messages([AIMessage("Once upon", additional_kwargs={"prefix": True})])
    assert message.prefix
