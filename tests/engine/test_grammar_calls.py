from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jsonschema
import numpy as np
import pytest
from grammar_drawing import drawn_answer
from grammar_sampling import accepts, sample, tiny_tokenizer

from ds4_backend.chat import Parser
from ds4_backend.engine.grammar import JsonSchema, Tools, ToolsOrText, compile_constraint
from ds4_backend.errors import EngineError, RequestError
from ds4_backend.types import Tool, ToolCall


def tool(name: str, properties: dict[str, Any], *required: str, **more: Any) -> Tool:
    return Tool(name, parameters={"type": "object", "properties": properties, "required": list(required), **more})


NODE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
    "required": ["value"],
    "additionalProperties": False,
}
DECLARED = (
    Tool("now", "The time."),
    tool("get_weather", {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}}, "city"),
    tool("paint", {"colour": {"enum": ["red", "dark blue", "", 'a "quoted" one', 7, None]}}, "colour"),
    tool("rename", {"from": {"type": "string", "minLength": 2, "maxLength": 9}, "to": {"type": ["string", "null"]}}),
    tool(
        "order", {"code": {"type": "string", "pattern": "^[A-Z]{2}-\\d{3}$|^x"}, "note": {"const": "</b> & so"}}, "code"
    ),
    tool("list", {"head": {"$ref": "#/$defs/Node"}}, "head", **{"$defs": {"Node": NODE}}),
    tool("mixed", {"a": {"anyOf": [{"type": "number"}, {"type": "string", "maxLength": 5}]}, "b": {}, "c": True}, "b"),
    tool("open", {"known": {"type": "boolean"}}, additionalProperties={"type": "integer"}),
    tool("nested", {"o": {"type": "object", "properties": {"s": {"type": "string"}}, "additionalProperties": False}}),
    tool("many", {f"p{i}": {"type": "boolean"} for i in range(12)}, "p3", "p7"),
    tool("one_of", {"s": {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "string", "minLength": 2}]}}, "s"),
    tool("excluded", {"s": {"type": "string", "not": {"enum": ["a", "b"]}, "maxLength": 1}}, "s"),
    tool("sized", {"n": {"type": "integer", "format": "int32", "minimum": 0}}, "n"),
    tool("undeclared", {}, "who"),
)


def calls_of(ids: Sequence[int], thinking: bool = False) -> tuple[ToolCall, ...]:
    """What the answer's own parser reads in it."""
    parser = Parser(tiny_tokenizer(), thinking)
    for id in ids:
        parser.push(id)
    parser.finish()
    assert not parser.malformed
    return parser.calls


def block(*calls: str) -> str:
    return "\n\n<｜DSML｜tool_calls>\n" + "\n".join(calls) + "\n</｜DSML｜tool_calls>"


def call(name: str, *parameters: str) -> str:
    return f'<｜DSML｜invoke name="{name}">\n' + "\n".join(parameters) + "\n</｜DSML｜invoke>"


def bare(name: str, text: str) -> str:
    return f'<｜DSML｜parameter name="{name}" string="true">{text}</｜DSML｜parameter>'


def value(name: str, text: str) -> str:
    return f'<｜DSML｜parameter name="{name}" string="false">{text}</｜DSML｜parameter>'


def compiled(*tools: Tool, choice: str = "required", parallel: bool = True, thinking: bool = False):
    return compile_constraint(Tools(tools or DECLARED, choice, parallel), tiny_tokenizer(), thinking)


def forced_calls(count: int) -> Counter[str]:
    """How often each tool was called in `count` answers of random logits, of which a call is required. Fails for one
    that does not parse, or does not satisfy its declaration."""
    schemas, seen = {tool.name: tool.parameters for tool in DECLARED}, Counter[str]()
    for seed in range(count):
        named = DECLARED[seed % len(DECLARED)].name if seed % 3 else "required"
        ids = drawn_answer(seed, tools=DECLARED, tool_choice=named, parallel_tool_calls=seed % 2 == 0)
        assert ids is not None
        calls = calls_of(ids)
        assert calls and (len(calls) == 1 or seed % 2 == 0)
        for made in calls:
            jsonschema.validate(json.loads(made.arguments), schemas[made.name])
            assert named in (made.name, "required")
            seen[made.name] += 1
    return seen


def test_a_few_forced_calls_parse_and_satisfy_their_declarations():
    assert forced_calls(21).total() >= 21


@pytest.mark.slow
def test_two_hundred_forced_calls_parse_and_satisfy_their_declarations():
    seen = forced_calls(200)
    print(*(f"{number:5} {name}" for name, number in seen.most_common()), sep="\n")
    assert seen.keys() == {tool.name for tool in DECLARED} and seen.total() >= 200


@pytest.mark.parametrize("declared", DECLARED, ids=lambda tool: tool.name)
def test_every_tool_can_be_named_and_called_at_random(declared):
    grammar = compiled(*DECLARED, choice=declared.name, parallel=False)
    for seed in range(8):
        ids, matcher = sample(grammar, np.random.default_rng(seed), limit=6000)
        (made,) = calls_of(ids)
        assert matcher.done and made.name == declared.name
        jsonschema.validate(json.loads(made.arguments), declared.parameters)


@pytest.mark.parametrize(
    "text",
    [
        block(call("now", "")),
        block(call("now", ""), call("now", "")),
        block(call("get_weather", bare("city", "Rome"))),
        block(call("get_weather", bare("city", 'a\r\n</b> "<" ｜DSML\n毕'), value("days", "7"))),
        block(call("paint", bare("colour", "dark blue"))),
        block(call("paint", bare("colour", ""))),
        block(call("paint", value("colour", "7"))),
        block(call("rename", bare("to", "x"))),
        block(call("rename", "")),
        block(call("order", bare("code", "AB-123"), bare("note", "</b> & so"))),
        block(call("order", bare("code", "xyz"))),
        block(call("list", value("head", '{"value": 1, "next": {"value": 2, "next": null}}'))),
        block(call("mixed", bare("a", "five!"), value("b", '[1, {"x": null}]'), bare("c", "")), call("now", "")),
        block(call("open", value("known", "true"), value("other", "3"), value("third", "-4"))),
        block(call("many", value("p3", "true"), value("p7", "false"), value("p11", "true"))),
    ],
)
def test_a_call_in_the_trained_form_is_accepted(text):
    assert accepts(compiled(), text)


@pytest.mark.parametrize(
    "text",
    [
        "Hello",
        block(),
        block(call("now", "")) + " and",
        block(call("now", ""))[1:],
        block(call("never", "")),
        block(call("get_weather", "")),
        block(call("get_weather", value("days", "3"))),
        block(call("get_weather", value("city", '"Rome"'))),
        block(call("get_weather", bare("city", "Rome"), value("days", "8"))),
        block(call("get_weather", bare("city", "Rome"), bare("days", "3"))),
        block(call("get_weather", bare("city", "Rome"), bare("city", "Rome"))),
        block(call("get_weather", bare("city", "Rome"), bare("town", "Rome"))),
        block(call("paint", bare("colour", "blue"))),
        block(call("paint", value("colour", "8"))),
        block(call("rename", bare("from", "x"))),
        block(call("order", bare("code", "ab-123"))),
        block(call("list", value("head", '{"value": 1, "other": 2}'))),
        block(call("mixed", bare("a", "sixsix"), bare("b", ""))),
        block(call("open", bare("known", "x"))),
        block(call("one_of", bare("s", "ab"))),
        block(call("excluded", bare("s", "a"))),
    ],
)
def test_a_call_outside_its_declaration_is_not(text):
    assert not accepts(compiled(), text)


def test_the_characters_of_the_closing_tag_do_not_close_a_string():
    tokenizer = tiny_tokenizer()
    grammar = compiled(DECLARED[1])
    head = tokenizer.encode(block(call("get_weather", bare("city", ""))).split("</｜DSML｜parameter")[0], control=True)
    spelt = tokenizer.encode("</｜DSML｜parameter> x", control=False)
    tail = tokenizer.encode("</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>", control=True)
    matcher = grammar.matcher()
    for id in [*head, *spelt, *tail]:
        matcher.accept(id)
    assert matcher.done
    (made,) = calls_of([*head, *spelt, *tail])
    assert json.loads(made.arguments) == {"city": "</｜DSML｜parameter> x"}


def test_one_call_is_enough_where_calls_are_not_parallel():
    text = block(call("now", ""), call("now", ""))
    assert accepts(compiled(), text)
    assert not accepts(compiled(parallel=False), text)


def test_the_markup_is_forced_and_its_special_tokens_are_special():
    tokenizer = tiny_tokenizer()
    matcher = compiled(Tool("now"), parallel=False).matcher()
    assert list(matcher.forced()) == tokenizer.encode(block(call("now", "")), control=True)
    for id in matcher.forced():
        matcher.accept(id)
    assert matcher.done and matcher.forced() == ()
    assert np.flatnonzero(matcher.mask()).tolist() == [tokenizer.eos]


def test_forced_tokens_are_those_the_tokenizer_itself_would_cut():
    tokenizer = tiny_tokenizer()
    grammar = compiled(DECLARED[1], choice="get_weather", parallel=False)
    ids, _ = sample(grammar, np.random.default_rng(5))
    opening = block(call("get_weather", bare("city", ""))).split(">", 5)
    head = tokenizer.encode(">".join(opening[:2]), control=True)
    assert ids[: len(head) - 1] == head[:-1]


def test_auto_is_free_until_a_block_opens():
    tokenizer = tiny_tokenizer()
    grammar = compiled(*DECLARED, choice="auto")
    matcher = grammar.matcher()
    for id in tokenizer.encode('Say "a < b" </｜DSML｜ ｜DSML｜ x\n\n<', control=True):
        assert matcher.mask() is None and matcher.forced() == ()
        matcher.accept(id)
    matcher.accept(tokenizer.token_id("｜DSML｜"))
    assert matcher.mask() is not None and not matcher.mask()[tokenizer.eos]
    assert tokenizer.decode(matcher.forced()).startswith("tool_calls>\n<｜DSML｜invoke name=")


def test_an_answer_without_a_call_is_fine_in_auto():
    tokenizer = tiny_tokenizer()
    matcher = compiled(*DECLARED, choice="auto").matcher()
    for id in tokenizer.encode("Hello."):
        matcher.accept(id)
    assert not matcher.done
    matcher.accept(tokenizer.eos)
    assert matcher.done


def test_a_block_that_auto_holds_parses_and_validates():
    tokenizer = tiny_tokenizer()
    start = tokenizer.encode("Wait.\n\n<｜DSML｜", control=True)
    schemas = {tool.name: tool.parameters for tool in DECLARED}
    for seed in range(10):
        ids, matcher = sample(compiled(choice="auto"), np.random.default_rng(seed), start, limit=6000)
        assert matcher.done
        for made in calls_of(ids):
            jsonschema.validate(json.loads(made.arguments), schemas[made.name])


def test_thinking_comes_first_and_may_not_end_the_answer():
    tokenizer = tiny_tokenizer()
    grammar = compiled(Tool("now"), parallel=False, thinking=True)
    matcher = grammar.matcher()
    thoughts = tokenizer.encode('Let me see. <｜DSML｜tool_calls> would be "now".', control=True)
    for id in thoughts:
        mask = matcher.mask()
        assert np.flatnonzero(~mask).tolist() == [tokenizer.eos] and matcher.forced() == ()
        matcher.accept(id)
    with pytest.raises(EngineError, match="not allowed"):
        matcher.accept(tokenizer.eos)
    matcher.accept(tokenizer.token_id("</think>"))
    ids = [*thoughts, tokenizer.token_id("</think>"), *matcher.forced()]
    assert [made.name for made in calls_of(ids, thinking=True)] == ["now"]


def test_a_block_quoted_in_the_thinking_is_not_held_in_auto():
    tokenizer = tiny_tokenizer()
    matcher = compiled(choice="auto", thinking=True).matcher()
    for id in tokenizer.encode("A <｜DSML｜nothing of the kind.</think>Text <", control=True):
        assert matcher.mask() is None
        matcher.accept(id)
    matcher.accept(tokenizer.token_id("｜DSML｜"))
    assert matcher.mask() is not None


def test_tools_and_a_schema_allow_either_and_nothing_else():
    schema = JsonSchema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    grammar = compile_constraint(ToolsOrText(Tools(DECLARED), schema), tiny_tokenizer(), False)
    assert accepts(grammar, '{"a": 1}')
    assert accepts(grammar, block(call("now", "")))
    assert not accepts(grammar, "Hello")
    assert not accepts(grammar, '{"a": 1}' + block(call("now", "")))
    forced = compile_constraint(ToolsOrText(Tools(DECLARED, "required"), schema), tiny_tokenizer(), False)
    assert accepts(forced, block(call("now", "")))
    assert not accepts(forced, '{"a": 1}')


def test_a_copy_goes_its_own_way():
    tokenizer = tiny_tokenizer()
    matcher = compiled(DECLARED[0], DECLARED[1]).matcher()
    for id in tokenizer.encode('\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="', control=True)[:-1]:
        matcher.accept(id)
    before = matcher.mask()
    twin = matcher.copy()
    twin.accept(int(np.flatnonzero(twin.mask())[0]))
    np.testing.assert_array_equal(matcher.mask(), before)


def test_a_token_that_is_not_allowed_is_refused_and_changes_nothing():
    tokenizer = tiny_tokenizer()
    matcher = compiled(DECLARED[0]).matcher()
    with pytest.raises(EngineError, match=r"token \d+ \('x'\) is not allowed"):
        matcher.accept(tokenizer.token_id("x"))
    matcher.accept(matcher.forced()[0])


@pytest.mark.parametrize(
    "tools, choice, said",
    [
        ((), "required", "needs tools"),
        (DECLARED[:2], "never", r"names 'never', which is not declared; declared are: now, get_weather"),
        ((Tool('a"b'),), "auto", "without double quotes"),
        ((Tool(""),), "auto", "printable"),
        ((tool("t", {"a\nb": {}}),), "auto", "tool 't', parameter .* printable"),
        ((Tool("t", parameters={"type": "array"}),), "auto", r"\['array'\], not an object"),
        ((Tool("t", parameters={"anyOf": [{}]}),), "auto", "tool 't' .*'anyOf' over all parameters"),
        ((Tool("t", parameters={"properties": []}),), "auto", "not a JSON Schema: 'properties' is"),
        ((tool("t", {"a": {"minLength": "2"}}),), "auto", "parameter 'a', is not a JSON Schema: 'minLength' is '2'"),
        ((tool("t", {"a": 3}),), "auto", "parameter 'a', is not a JSON Schema: 3"),
        ((tool("t", {"a": False}, "a"),), "auto", "parameter 'a', cannot be held: no value"),
        ((tool("t", {}, "a", additionalProperties=False),), "auto", "'a' is required but not among"),
        ((tool("t", {"a": {"type": "string", "minLength": 3, "maxLength": 2}}),), "auto", "minLength 3 is above"),
        ((tool("t", {"a": {"enum": ["x"], "pattern": "y"}}),), "auto", "parameter 'a', .* nothing can satisfy"),
        ((tool("t", {"a": {"type": "string", "pattern": "(?=x)y"}}),), "auto", "parameter 'a', .*look-ahead"),
        ((tool("t", {"a": {"type": "array", "uniqueItems": True}}),), "auto", "parameter 'a', .*uniqueItems"),
        ((tool("t", {"a": {"type": "integer", "minimum": 5, "maximum": 3}}),), "auto", "parameter 'a', .*minimum"),
        ((tool("t", {"a": {"$ref": "#/$defs/none"}}),), "auto", "there is no #/\\$defs/none"),
        ((tool("t", {"a": {"$ref": "http://x/y"}}),), "auto", "outside the schema"),
        ((tool("t", {"a": {"type": "string", "if": {}, "then": {}}}),), "auto", "'if' is not supported"),
        ((tool("t", {"a": {"type": [["string"]]}}),), "auto", r"'type' is \[\['string'\]\]"),
        ((Tool("t", parameters={"required": "a"}),), "auto", "tool 't' is not a JSON Schema: 'required' is 'a'"),
        ((tool("t", {"a": {}}, **{"$ref": "#"}),), "auto", r"both '\$ref' and 'properties'"),
        ((tool("t", {"a": {"$ref": "#/$defs/A"}}, **{"$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}}),), "auto",
         "refers to itself without end"),
    ],
)  # fmt: skip
def test_what_cannot_be_held_is_refused_with_the_reason(tools, choice, said):
    with pytest.raises(RequestError, match=said):
        compile_constraint(Tools(tools, choice), tiny_tokenizer(), False)


def test_a_schema_without_end_is_refused():
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(5000):
        schema = {"anyOf": [schema]}
    with pytest.raises(RequestError, match="nested too deeply"):
        compile_constraint(Tools((tool("t", {"a": schema}),)), tiny_tokenizer(), False)


def test_parameters_behind_a_reference_are_held_too():
    args = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    grammar = compiled(Tool("t", parameters={"$ref": "#/$defs/Args", "$defs": {"Args": args}}))
    assert accepts(grammar, block(call("t", value("n", "3"))))
    assert not accepts(grammar, block(call("t", "")))
