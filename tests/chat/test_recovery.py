"""Malformed answers and what is made of them: a file for each case in malformed/, as a model would write it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from test_parse import merged  # beside this file

from ds4_backend.chat import Parser
from ds4_backend.tokenizer import DSML, Tokenizer
from ds4_backend.types import Event, ReasoningDelta, TextDelta, Tool, ToolCall, ToolCallDelta, ToolCallStart

FILES = sorted((Path(__file__).parent / "malformed").glob("*.json"))
ROWS = {
    "wrapper tag misspelt",
    "typographic quotes in attributes",
    "string attribute missing",
    "nested parameters inside a parameter without string",
    "unclosed last parameter, invoke or wrapper at the end of sentence",
    "wrong closers, stray elements",
    "unknown tool name or schema violation",
    "nothing usable",
    "a complete block inside the thinking that ends the turn",
}


def tool(name: str, properties: dict[str, Any], *required: str) -> Tool:
    return Tool(name, parameters={"type": "object", "properties": properties, "required": list(required)})


OPTS = {"type": "object", "properties": {"units": {"type": "string"}, "size": {"type": "integer"}}}
TOOLS = (
    tool("get_weather", {"city": {"type": "string"}, "days": {"type": "integer"}}, "city"),
    tool("write_file", {"path": {"type": "string"}, "text": {"type": "string"}}, "path", "text"),
    tool("paint", {"opts": OPTS, "colour": {"anyOf": [{"type": "string"}, {"type": "null"}]}, "label": {"const": "3"}}),
    Tool("now"),
)


def load(path: Path) -> dict[str, Any]:
    case = json.loads(path.read_text(encoding="utf-8"))
    return case | {"text": "\n".join(case["text"])}


def read(tokenizer: Tokenizer, ids: list[int], case: dict[str, Any], **options: Any) -> tuple[Parser, list[Event]]:
    numbers = itertools.count()
    parser = Parser(tokenizer, case["thinking"], **{"tools": TOOLS, "new_id": lambda: f"id{next(numbers)}"} | options)
    events = [event for id in ids for event in parser.push(id)]
    return parser, events + (parser.push(tokenizer.eos) if case["ended"] else parser.finish())


def check(parser: Parser, events: list[Event], case: dict[str, Any]) -> None:
    assert [[call.name, json.loads(call.arguments)] for call in parser.calls] == case["calls"]
    assert (parser.content, parser.reasoning) == (case["content"], case["reasoning"])
    assert (list(parser.warnings), list(parser.invalid_calls)) == (case["warnings"], case["invalid"])
    assert parser.done and not parser.withheld
    assert parser.finish_reason == ("tool_calls" if case["calls"] else "stop")
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == parser.content
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == parser.reasoning
    for call in parser.calls:
        (start,) = [event for event in events if isinstance(event, ToolCallStart) and event.id == call.id]
        pieces = [e.text for e in events if isinstance(e, ToolCallDelta) and e.index == start.index]
        assert call == ToolCall(start.id, start.name, "".join(pieces))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_malformed_answer_is_read_as_its_file_says(tokenizer: Tokenizer, path: Path) -> None:
    case = load(path)
    check(*read(tokenizer, tokenizer.encode(case["text"], control=True), case), case)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_read_alike_when_every_byte_is_a_token(tokenizer: Tokenizer, path: Path) -> None:
    case = load(path)
    whole = tokenizer.encode(case["text"], control=True)
    pieces = ((tokenizer.token_bytes(id), id) for id in range(tokenizer.vocab_size) if not tokenizer.is_special(id))
    single_bytes = {piece[0]: id for piece, id in pieces if len(piece) == 1}
    single = [
        piece
        for id in whole
        for piece in ([id] if tokenizer.is_special(id) else [single_bytes[b] for b in tokenizer.token_bytes(id)])
    ]
    one, two = (read(tokenizer, ids, case) for ids in (whole, single))
    assert merged(one[1]) == merged(two[1]) and one[0].warnings == two[0].warnings


def test_every_row_of_the_table_has_a_file() -> None:
    assert {load(path)["row"] for path in FILES} == ROWS


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_without_tools_markup_is_text(tokenizer: Tokenizer, path: Path) -> None:
    case = load(path)
    parser, events = read(tokenizer, tokenizer.encode(case["text"], control=True), case, tools=())
    assert {type(event) for event in events} <= {TextDelta, ReasoningDelta}
    assert parser.reasoning + "</think>" * ("</think>" in case["text"]) + parser.content == case["text"]
    assert parser.calls == parser.warnings == ()


@pytest.mark.parametrize("path", [path for path in FILES if path.stem.startswith("wrapper-")], ids=lambda p: p.stem)
def test_a_misspelt_wrapper_needs_declared_tools(tokenizer: Tokenizer, path: Path) -> None:
    case = load(path)
    if DSML not in case["text"]:
        parser, _ = read(tokenizer, tokenizer.encode(case["text"], control=True), case, tools=None)
        assert (parser.calls, parser.content) == ((), case["text"])


@pytest.mark.parametrize("name", ["doubled-bars", "first-bar-missing", "ascii-bars", "plain"])
def test_a_misspelt_wrapper_may_be_all_ordinary_characters(tokenizer: Tokenizer, name: str) -> None:
    case = load(Path(__file__).parent / "malformed" / f"wrapper-{name}.json")
    check(*read(tokenizer, tokenizer.encode(case["text"]), case), case)


def test_the_right_spelling_in_ordinary_characters_is_a_quotation(tokenizer: Tokenizer) -> None:
    """That is how a block from a web page or a file looks when the model repeats it."""
    case = load(Path(__file__).parent / "malformed" / "unclosed-wrapper.json")
    text = f"{case['text']}\n</{DSML}tool_calls>"
    parser, _ = read(tokenizer, tokenizer.encode(text), case)
    assert (parser.calls, parser.content, parser.warnings) == ((), text, ())
