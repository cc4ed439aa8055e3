from __future__ import annotations

import json
import random
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal, Optional

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4_backend.chat.declare import canonical_tool
from ds4_backend.types import Tool


def printed(name: str, description: str, parameters: dict[str, Any]) -> str:
    tool = canonical_tool(Tool(name, description, parameters))
    return json.dumps([tool.name, tool.description, tool.parameters])


def parameters(schema: dict[str, Any]) -> Any:
    return canonical_tool(Tool("f", parameters=schema)).parameters


# The same function through three hosts


class Unit(Enum):
    C = "C"
    F = "F"


def get_weather(
    city: str,
    days: int = 3,
    units: Literal["C", "F"] = "C",
    kind: Unit = Unit.C,
    note: Optional[str] = None,  # noqa: UP045
    tags: list[str] = [],  # noqa: B006
) -> str:
    """Weather for a city.

    Looks it up:
        at once.
    """
    return ""


def now() -> str:
    """The time."""
    return ""


def plain(text: str, options: dict[str, int], parts: list[str], really: bool, share: float, count: int | None) -> str:
    """Does it."""
    return ""


WRITTEN: dict[Callable[..., Any], dict[str, Any]] = {
    get_weather: {
        "type": "object",
        "required": ["city"],
        "additionalProperties": False,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "properties": {
            "city": {"title": "City", "type": "string"},
            "days": {"type": "integer", "default": 3},
            "units": {"enum": ["C", "F"], "type": "string", "default": "C"},
            "kind": {"type": "string", "enum": ["C", "F"], "default": "C"},
            "note": {"default": None, "anyOf": [{"type": "string"}, {"type": "null"}]},
            "tags": {"type": "array", "items": {"type": "string"}, "default": []},
        },
    },
    now: {},
    plain: {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "options": {"type": "object", "additionalProperties": {"type": "integer"}},
            "parts": {"type": "array", "items": {"type": "string"}},
            "really": {"type": "boolean"},
            "share": {"type": "number"},
            "count": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        },
        "required": ["count", "share", "really", "parts", "options", "text"],
        "strict": True,
    },
}
FUNCTIONS = pytest.mark.parametrize("function", WRITTEN, ids=lambda function: function.__name__)


def by_hand(function: Callable[..., Any]) -> str:
    return printed(function.__name__, function.__doc__ or "", WRITTEN[function])


@FUNCTIONS
def test_a_function_through_llm_is_what_is_written_by_hand(function: Callable[..., Any]) -> None:
    llm = pytest.importorskip("llm")
    tool = llm.Tool.function(function)
    assert printed(tool.name, tool.description or "", tool.input_schema) == by_hand(function)


@FUNCTIONS
def test_a_tool_through_langchain_is_what_is_written_by_hand(function: Callable[..., Any]) -> None:
    tools = pytest.importorskip("langchain_core.tools")
    calling = pytest.importorskip("langchain_core.utils.function_calling")
    inner = calling.convert_to_openai_tool(tools.tool(function))["function"]
    assert printed(inner["name"], inner["description"], inner["parameters"]) == by_hand(function)


@pytest.mark.parametrize("function", [now, plain], ids=lambda function: function.__name__)
def test_a_bare_function_through_langchain_is_the_same_if_its_docstring_is_one_line(function: Any) -> None:
    calling = pytest.importorskip("langchain_core.utils.function_calling")
    inner = calling.convert_to_openai_tool(function)["function"]
    assert printed(inner["name"], inner["description"], inner["parameters"]) == by_hand(function)


# What is changed, and what is not


def test_descriptions_lose_their_indentation() -> None:
    tool = canonical_tool(Tool("f", "One.\n\n    Two:\n        three\n    ", {"description": "\n  A\n  B\n"}))
    assert (tool.description, tool.parameters["description"]) == ("One.\n\nTwo:\n    three", "A\nB")
    assert parameters({"properties": {"x": {"description": " a "}}})["properties"]["x"] == {"description": "a"}


def test_titles_go_where_they_repeat_a_name() -> None:
    properties = {"max_size": {"title": "Max Size"}, "x": {"title": "Width in mm"}, "title": {"type": "string"}}
    got = parameters({"title": "FArguments", "properties": properties})
    assert "title" not in got
    assert got["properties"] == {"max_size": {}, "x": {"title": "Width in mm"}, "title": {"type": "string"}}


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    properties = {"required": {"type": "string"}, "$ref": {"type": "string"}, "$schema": {}, "default": {}}
    got = parameters({"properties": properties, "required": ["required"]})
    assert got == {"type": "object", "properties": properties, "required": ["required"]}
    assert list(got["properties"]) == list(properties)


def test_values_are_never_touched() -> None:
    value = {"type": "x", "$ref": "#/$defs/A", "title": "a", "description": " b "}
    field = {"default": value, "enum": [value], "examples": [value], "const": value}
    assert parameters({"properties": {"a": field}})["properties"]["a"] == field


def test_no_other_parameters_is_said_by_saying_nothing() -> None:
    closed = {"type": "object", "additionalProperties": False}
    assert parameters({**closed, "properties": {"o": closed}}) == {"type": "object", "properties": {"o": closed}}
    assert parameters({"additionalProperties": True})["additionalProperties"] is True


def test_references_are_written_out_with_what_stands_beside_them() -> None:
    defs = {"P": {"title": "P", "type": "object", "properties": {"u": {"$ref": "#/$defs/U"}}}, "U": {"enum": [1]}}
    got = parameters({"$defs": defs, "properties": {"p": {"$ref": "#/$defs/P", "description": "where"}}})
    point = {"type": "object", "description": "where", "properties": {"u": {"enum": [1]}}}
    assert got == {"type": "object", "properties": {"p": point}}


def test_recursive_references_stay() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    schema = {"type": "object", "properties": {"head": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": node}}
    assert parameters(schema) == schema
    root = {"type": "object", "properties": {"child": {"$ref": "#"}, "far": {"$ref": "https://example.org/s"}}}
    assert parameters(root) == root


def test_references_that_multiply_stay() -> None:
    defs: dict[str, Any] = {f"D{n}": {"anyOf": [{"$ref": f"#/$defs/D{n + 1}"}] * 4} for n in range(6)}
    schema = {"type": "object", "properties": {"x": {"$ref": "#/$defs/D0"}}, "$defs": defs | {"D6": {"type": "null"}}}
    assert parameters(schema) == schema


@pytest.mark.parametrize(
    "schema",
    [{"properties": 3}, {"properties": {"x": 3}}, {"required": "x"}, {"anyOf": 3}, {"items": [1]},
     {"properties": {"x": {"$ref": 3}}}, {"properties": {"x": {"$ref": "#/$defs/none"}}}, {"description": 3},
     {"properties": {"x": {"title": 3}}}, {"required": [["x"]]}, {"required": {"a": 1}}],
)  # fmt: skip
def test_what_is_no_schema_is_left_alone(schema: dict[str, Any]) -> None:
    assert parameters(schema) == {"type": "object", "properties": {}} | schema


SIMPLE = st.sampled_from(
    [{"type": "string", "maxLength": 3}, {"type": "integer", "minimum": 2}, {"enum": ["a", 1]}, {"$ref": "#/$defs/D"}]
)
SCHEMAS = st.recursive(
    SIMPLE,
    lambda inner: (
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries({"type": st.just("array"), "items": inner, "title": st.just("T")})
        | st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("ab"), inner, max_size=2)},
            optional={
                "required": st.just(["b", "a"]),
                "additionalProperties": st.booleans(),
                "description": st.just(" d"),
            },
        )
    ),
    max_leaves=4,
)
VALUES = st.recursive(
    st.sampled_from(["a", "long one", 1, 5, None]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=40)
@given(SCHEMAS, SCHEMAS, st.lists(VALUES, min_size=4, max_size=4), st.randoms(use_true_random=False))
def test_the_declaration_allows_what_the_callers_schema_allows(
    schema: Any, shelf: Any, values: list[Any], chance: random.Random
) -> None:
    whole = {"type": "object", "properties": {"x": schema}, "$defs": {"D": shelf}}
    written = parameters(shuffled(whole, chance))
    assert json.dumps(written) == json.dumps(parameters(whole)) == json.dumps(parameters(written))
    for value in values:
        try:
            expected = jsonschema.Draft202012Validator(whole).is_valid({"x": value})
        except RecursionError:
            return  # a definition that is only itself
        assert jsonschema.Draft202012Validator(written).is_valid({"x": value}) == expected


def shuffled(schema: Any, chance: random.Random) -> Any:
    """The same schema with its keys in another order, but for the names of properties."""
    if isinstance(schema, list):
        return [shuffled(item, chance) for item in schema]
    if not isinstance(schema, dict):
        return schema
    keys = list(schema)
    if not {"a", "b"} & set(keys):
        chance.shuffle(keys)
    return {key: shuffled(schema[key], chance) for key in keys}
