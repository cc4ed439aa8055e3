from __future__ import annotations

from typing import Any

import pytest

from ds4_backend.chat.openai import (
    messages_from_openai,
    parallel_tool_calls_from_openai,
    request_from_openai,
    response_format_from_openai,
    stop_from_openai,
    tool_choice_from_openai,
    tools_from_openai,
)
from ds4_backend.errors import RequestError, UnsupportedContent
from ds4_backend.types import JsonObject, JsonSchema, Message, Regex, Tool, ToolCall


def one(**fields: Any) -> Message:
    (message,) = messages_from_openai([fields])
    return message


def test_roles_are_mapped() -> None:
    assert one(role="developer", content="d") == Message("system", "d")
    assert one(role="function", name="f", content="r") == Message("tool", "r", tool_call_id="f")
    assert one(role="tool", tool_call_id="c", content="r") == Message("tool", "r", tool_call_id="c")


def test_content_may_be_a_string_nothing_or_text_parts() -> None:
    assert one(role="user", content=None).content == one(role="user").content == ""
    parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}, "c"]
    assert one(role="user", content=parts).content == "a\n\nb\n\nc"


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "refusal"])
def test_a_part_that_is_not_text_is_refused_by_name(kind: str) -> None:
    content = [{"type": "text", "text": "see"}, {"type": kind}]
    with pytest.raises(UnsupportedContent, match=f"message 2, part 2 is of type '{kind}'"):
        messages_from_openai([{"role": "user", "content": "x"}, {"role": "user", "content": content}])


def test_reasoning_is_read_under_both_names() -> None:
    assert one(role="assistant", content="a", reasoning_content="r").reasoning == "r"
    assert one(role="assistant", content="a", reasoning="r").reasoning == "r"
    assert one(role="assistant", content="a").reasoning is None


BESIDE = [{"type": "thinking", "thinking": "Be kind.", "signature": None}]
INSIDE = [
    {"type": "reasoning", "reasoning": "Be "},
    {"type": "thinking", "thinking": "kind."},
    {"type": "text", "text": "Let me "},
    {"type": "tool_use", "id": "c"},
    {"type": "redacted_thinking", "data": "x"},
    "see.",
]


@pytest.mark.parametrize(
    "fields",
    [
        {"content": "Let me see.", "thinking_blocks": BESIDE},
        {"content": INSIDE, "tool_calls": []},
        {"content": [{"type": "thinking", "thinking": "other"}, "Let me see."], "reasoning": "Be kind."},
    ],
    ids=["beside the content", "in the content", "both"],
)
def test_reasoning_in_blocks_is_read_and_the_text_stays_as_it_was_written(fields: dict[str, Any]) -> None:
    assert one(role="assistant", **fields) == Message("assistant", "Let me see.", "Be kind.")


def test_what_is_no_text_is_refused_in_an_answer_too_by_its_place() -> None:
    with pytest.raises(UnsupportedContent, match="message 1, part 2 is of type 'image'"):
        one(role="assistant", content=["see", {"type": "image"}])


def test_reasoning_in_a_part_is_a_string() -> None:
    with pytest.raises(RequestError, match="message 1, part 1: the reasoning is not a string"):
        one(role="assistant", content=[{"type": "thinking", "thinking": {"text": "Hm."}}])


def test_a_call_in_the_content_is_passed_over_only_where_calls_stand_apart() -> None:
    content = ["see", {"type": "tool_use", "id": "c", "name": "f", "input": {}}]
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    expected = Message("assistant", "see", tool_calls=(ToolCall("c", "f", "{}"),))
    assert one(role="assistant", content=content, tool_calls=[call]) == expected
    with pytest.raises(UnsupportedContent, match="message 1, part 2 is of type 'tool_use'"):
        one(role="assistant", content=content, tool_calls=None)


def test_arguments_may_be_text_or_parsed() -> None:
    def call(arguments: Any) -> dict[str, Any]:
        return {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}

    message = one(role="assistant", tool_calls=[call('{"a":1}'), call({"a": "é"}), call(None)])
    assert [c.arguments for c in message.tool_calls] == ['{"a":1}', '{"a": "é"}', "{}"]


def test_the_old_function_call_form_is_read() -> None:
    call, result = messages_from_openai(
        [
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "r"},
        ]
    )
    assert call.tool_calls == (ToolCall("f", "f", "{}"),) and result.tool_call_id == call.tool_calls[0].id


@pytest.mark.parametrize("flag", ["prefix", "wo_eos"])
def test_a_prefix_is_marked(flag: str) -> None:
    assert one(role="assistant", content="a", **{flag: True}).prefix


def test_tools_are_read_in_both_forms_and_from_a_system_message() -> None:
    inner = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    expected = Tool("f", "d", {"type": "object"})
    assert tools_from_openai([{"type": "function", "function": inner}, inner]) == (expected, expected)
    request = request_from_openai([{"role": "system", "content": "s", "tools": [inner]}], effort="low")
    assert request.tools == (expected,) and request.effort == "low"


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("hi", "not an object"),
        ({"content": "x"}, "role None"),
        ({"role": "user", "content": 3}, "not a list"),
        ({"role": "user", "content": [{"type": "text"}]}, "has no text"),
        ({"role": "assistant", "reasoning": 3}, "reasoning is not a string"),
        ({"role": "assistant", "tool_calls": {}}, "tool_calls is not a list"),
        ({"role": "assistant", "tool_calls": ["f"]}, "call 1 is not a function call"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "no function name"),
    ],
)
def test_a_message_in_another_form_is_refused_by_its_place(message: Any, problem: str) -> None:
    with pytest.raises(RequestError, match=rf"message 1.*{problem}"):
        messages_from_openai([message])


@pytest.mark.parametrize("tool", [3, {"type": "web_search"}, {"function": {}}, {"name": "f", "parameters": [1]}])
def test_a_tool_in_another_form_is_refused_by_its_place(tool: Any) -> None:
    with pytest.raises(RequestError, match="tool 1"):
        tools_from_openai([tool])


# Options


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        (None, "auto"),
        (False, "auto"),
        (True, "required"),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ("any", "required"),
        ("f", "f"),
        ({"type": "function", "function": {"name": "f"}}, "f"),
        ({"type": "function", "name": "f"}, "f"),
        ({"type": "tool", "name": "f"}, "f"),
        ({"function": {"name": "f"}}, "f"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
    ],
)
def test_a_tool_choice_is_read_in_every_spelling(value: Any, choice: str) -> None:
    assert tool_choice_from_openai(value) == choice


@pytest.mark.parametrize(
    "value",
    ["", 3, ["f"], {"type": "allowed_tools"}, {"type": ["any"]}, {"type": "function"}, {"type": "function", "name": 3},
     {"type": "function", "function": "f"}],
)  # fmt: skip
def test_another_tool_choice_is_refused(value: Any) -> None:
    with pytest.raises(RequestError, match="tool_choice"):
        tool_choice_from_openai(value)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}


class LikePydantic:
    @staticmethod
    def model_json_schema() -> dict[str, Any]:
        return SCHEMA


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonObject()),
        ({"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": SCHEMA}}, JsonSchema(SCHEMA)),
        ({"type": "json_schema", "name": "n", "schema": SCHEMA}, JsonSchema(SCHEMA)),
        ({"type": "json_schema", "json_schema": {"schema": True}}, JsonSchema(True)),
        ({"type": "regex", "pattern": "a+"}, Regex("a+")),
        (LikePydantic, JsonSchema(SCHEMA)),
    ],
)
def test_a_response_format_is_read(value: Any, expected: Any) -> None:
    assert response_format_from_openai(value) == expected


@pytest.mark.parametrize(
    "value",
    ["json", int, {}, {"type": "yaml"}, {"type": ["text"]}, {"type": "json_schema"}, {"type": "regex"},
     {"type": "json_schema", "json_schema": {"name": "n"}}, {"type": "json_schema", "json_schema": [SCHEMA]}],
)  # fmt: skip
def test_another_response_format_is_refused(value: Any) -> None:
    with pytest.raises(RequestError, match="response_format"):
        response_format_from_openai(value)


def test_parallel_tool_calls_are_allowed_unless_refused() -> None:
    assert [parallel_tool_calls_from_openai(value) for value in (None, True, False)] == [True, True, False]
    with pytest.raises(RequestError, match="'no'; use true or false"):
        parallel_tool_calls_from_openai("no")


def test_stop_is_a_string_or_a_list_of_them() -> None:
    assert [stop_from_openai(value) for value in (None, "a", ["a", "b"], [])] == [(), ("a",), ("a", "b"), ()]
    for value in ("", 3, ["a", ""], [1], {"a": 1}):
        with pytest.raises(RequestError, match="stop is"):
            stop_from_openai(value)


@pytest.mark.parametrize(
    ("said", "held"),
    [
        ({"properties": {"a": {}}}, {"properties": {"a": {}}, "additionalProperties": False}),
        ({"properties": {}, "additionalProperties": True}, {"properties": {}, "additionalProperties": True}),
        ({"type": "object"}, {"type": "object"}),
        ({"properties": {"a": {}}, "allOf": [{}]}, {"properties": {"a": {}}, "allOf": [{}]}),
    ],
)
def test_an_answer_has_no_keys_but_those_named_unless_the_schema_says_so(said: object, held: object) -> None:
    wanted = response_format_from_openai({"type": "json_schema", "json_schema": {"name": "x", "schema": said}})
    assert wanted == JsonSchema(held)  # type: ignore[arg-type]
