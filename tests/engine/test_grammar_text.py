from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import jsonschema
import numpy as np
import pytest
from grammar_sampling import accepts, sample, tiny_tokenizer

from ds4_backend.engine.grammar import Grammar, JsonObject, JsonSchema, Regex, compile_constraint
from ds4_backend.engine.grammar.vocabulary import grammar_tokenizer
from ds4_backend.errors import RequestError
from ds4_backend.tokenizer import REQUIRED, Tokenizer

# A schema, an instance that satisfies it, and one that does not.
CASES: dict[str, tuple[Any, Any, Any]] = {
    "enum": ({"enum": ["red", "green", 3, None, [1]]}, [1], "blue"),
    "const": ({"const": {"a": 1}}, {"a": 1}, {"a": 2}),
    "integer range": ({"type": "integer", "minimum": -3, "maximum": 120}, -3, 121),
    "number range": ({"type": "number", "exclusiveMinimum": 0, "maximum": 1.5}, 0.25, 1.75),
    "multiple": ({"type": "integer", "multipleOf": 5, "minimum": 0}, 35, 36),
    "string length": ({"type": "string", "minLength": 2, "maxLength": 4}, "毕老师", "毕"),
    "pattern": ({"type": "string", "pattern": "^\\d{2,3}-[\\w]+$"}, "12-ab", "1-ab"),
    "format": ({"type": "string", "format": "date"}, "2026-11-22", "2026-13-22"),
    "unknown format": ({"type": "integer", "format": "int32"}, 7, "7"),
    "several types": ({"type": ["boolean", "null"]}, None, 0),
    "object": (
        {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
            "required": ["name"],
            "additionalProperties": False,
        },
        {"name": 'a "b" \\ \n', "age": 3},
        {"name": "x", "other": 1},
    ),
    "nested object": (
        {
            "type": "object",
            "properties": {"a": {"type": "object", "properties": {"b": {"type": "null"}}, "required": ["b"]}},
            "required": ["a"],
            "additionalProperties": False,
        },
        {"a": {"b": None}},
        {"a": {}},
    ),
    "typed others": ({"type": "object", "additionalProperties": {"type": "boolean"}}, {"x": True}, {"x": 1}),
    "array": ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3}, [1, 2], [1, 2, 3, 4]),
    "tuple": (
        {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}], "items": False, "minItems": 2},
        [1, True],
        [True, 1],
    ),
    "anyOf": ({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "null"}}]}, [None], [1]),
    "oneOf": ({"oneOf": [{"type": "integer"}, {"type": "boolean"}]}, True, "x"),
    "allOf": ({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 5}]}, 4, 6),
    "reference": (
        {"type": "array", "items": {"$ref": "#/$defs/Level"}, "$defs": {"Level": {"enum": ["low", "high"]}}},
        ["low", "high"],
        ["medium"],
    ),
    "recursion": (
        {
            "$ref": "#/$defs/Tree",
            "$defs": {
                "Tree": {
                    "type": "object",
                    "properties": {"leaf": {"type": "boolean"}, "left": {"$ref": "#/$defs/Tree"}},
                    "required": ["leaf"],
                    "additionalProperties": False,
                }
            },
        },
        {"leaf": False, "left": {"leaf": True}},
        {"leaf": False, "left": {}},
    ),
    "nothing said": (
        {
            "type": "object",
            "properties": {"format": {"type": "array", "items": {"type": "integer"}, "uniqueItems": False}},
            "minProperties": 0,
            "propertyNames": {},
            "if": {"required": ["x"]},
            "unevaluatedProperties": False,
        },
        {"format": [1, 1]},
        {"x": 1},
    ),
    "properties named like keywords": (
        {
            "type": "object",
            "properties": {"enum": {"type": "string", "format": "int32"}, "uniqueItems": False, "default": True},
            "additionalProperties": False,
        },
        {"enum": "x", "default": None},
        {"uniqueItems": 1},
    ),
    "anything": (True, [{"a": [1.5, "x"]}], None),
}


def compiled(schema: Any, thinking: bool = False) -> Grammar:
    return compile_constraint(JsonSchema(schema), tiny_tokenizer(), thinking)


def text_of(ids: list[int]) -> str:
    tokenizer = tiny_tokenizer()
    return tokenizer.decode([id for id in ids if id != tokenizer.eos])


@pytest.mark.parametrize("name", CASES)
def test_random_answers_satisfy_the_schema(name):
    schema = CASES[name][0]
    grammar, rng = compiled(schema), np.random.default_rng(7)
    for _ in range(10):
        ids, matcher = sample(grammar, rng)
        assert matcher.done
        jsonschema.validate(json.loads(text_of(ids)), schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("name", CASES)
def test_a_valid_instance_is_accepted(name):
    schema, valid, _ = CASES[name]
    jsonschema.validate(valid, schema)
    assert accepts(compiled(schema), json.dumps(valid, ensure_ascii=False))


@pytest.mark.parametrize("name", [name for name in CASES if name != "anything"])
def test_an_invalid_instance_is_not(name):
    schema, _, invalid = CASES[name]
    checker = jsonschema.FormatChecker()
    assert not jsonschema.Draft202012Validator(schema, format_checker=checker).is_valid(invalid)
    assert not accepts(compiled(schema), json.dumps(invalid, ensure_ascii=False))


@pytest.mark.parametrize("text", ["", " 1", "[1, 2", "[1, 2]]", "[1,2]", "{'a': 1}", "[1, 2] because", "NaN"])
def test_what_is_not_json_in_the_trained_layout_is_not_accepted(text):
    assert not accepts(compiled(True), text)


def test_json_mode_gives_objects():
    grammar = compile_constraint(JsonObject(), tiny_tokenizer(), False)
    rng = np.random.default_rng(3)
    for _ in range(20):
        ids, matcher = sample(grammar, rng)
        assert matcher.done and isinstance(json.loads(text_of(ids)), dict)
    assert accepts(grammar, '{"a": [1, {"b": null}]}')
    assert not accepts(grammar, "[1]")


@pytest.mark.parametrize(
    "pattern, good, bad",
    [
        ("yes|no", "no", "maybe"),
        ("^(a+)/(b*)$", "aa/", "/b"),
        ("^x$|^y$", "y", "xy"),
        ("line\nline", "line\nline", "lineline"),
        ("[^\\n]{3}", "毕老师", "毕老"),
        ("", "", "x"),
        ("[[&]\\d", "[7", "&x"),
    ],
)
def test_a_regular_expression_holds_the_whole_text(pattern, good, bad):
    grammar = compile_constraint(Regex(pattern), tiny_tokenizer(), False)
    assert accepts(grammar, good)
    assert not accepts(grammar, bad)


def test_random_answers_match_the_regular_expression():
    import re

    grammar, rng = compile_constraint(Regex("[a-f]{2,9}(-[0-9]+)?"), tiny_tokenizer(), False), np.random.default_rng(2)
    for _ in range(20):
        ids, matcher = sample(grammar, rng)
        assert matcher.done and re.fullmatch("[a-f]{2,9}(-[0-9]+)?", text_of(ids))


def test_thinking_comes_before_the_json():
    tokenizer = tiny_tokenizer()
    grammar = compiled({"type": "boolean"}, thinking=True)
    assert accepts(grammar, "Hmm, {not json}.</think>true")
    assert not accepts(grammar, "true")
    assert not accepts(grammar, "</think>Hmm")
    ids, _ = sample(grammar, np.random.default_rng(1), tokenizer.encode("x</think>", control=True))
    assert text_of(ids[2:]) in ("true", "false")


def test_an_answer_that_could_go_on_is_done_at_its_end_token_only():
    tokenizer = tiny_tokenizer()
    matcher = compiled({"type": "integer"}).matcher()
    matcher.accept(tokenizer.token_id("1"))
    assert matcher.mask()[tokenizer.eos] and not matcher.done
    matcher.accept(tokenizer.eos)
    assert matcher.done


def test_special_tokens_are_never_text():
    tokenizer = tiny_tokenizer()
    matcher = compiled({"type": "string"}).matcher()
    matcher.accept(tokenizer.token_id('"'))
    allowed = np.flatnonzero(matcher.mask())
    assert len(allowed) > 3000
    assert not any(tokenizer.is_special(int(id)) for id in allowed)


def test_holes_in_the_vocabulary_are_never_text():
    from tokenizers import pre_tokenizers

    tokens = [*REQUIRED, *sorted(pre_tokenizers.ByteLevel.alphabet()), "[PAD1]", "[PAD2]"]
    types = [3] * len(REQUIRED) + [1] * 256 + [5, 5]
    metadata = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types, "tokenizer.ggml.merges": []}
    tokenizer = Tokenizer.from_gguf(metadata)
    mask = compile_constraint(JsonSchema({"type": "array"}), tokenizer, False).matcher().mask()
    assert mask.shape == (len(tokens),)
    assert np.flatnonzero(mask).tolist() == [tokenizer.token_id("[")]


def test_the_vocabulary_is_prepared_once():
    assert grammar_tokenizer(tiny_tokenizer()) is grammar_tokenizer(tiny_tokenizer())


@pytest.mark.parametrize(
    "constraint, said",
    [
        (JsonSchema([1]), r"is not a JSON Schema: \[1\]"),
        (JsonSchema(False), "the schema of the answer cannot be held: .*empty"),
        (JsonSchema({"type": "frog"}), "Invalid type: frog"),
        (JsonSchema({"type": "integer", "minimum": 5, "maximum": 3}), r"minimum \(5\) is greater than maximum \(3\)"),
        (JsonSchema({"type": "object", "properties": {"a": False}, "required": ["a"]}), "property 'a' is unsatisf"),
        (JsonSchema({"type": "array", "uniqueItems": True}), "uniqueItems"),
        (JsonSchema({"not": {"type": "string"}}), "not"),
        (JsonSchema({"$ref": "#/$defs/none"}), r"/\$defs/none"),
        (JsonSchema({"type": "string", "pattern": "(?=a)b"}), "look-ahead"),
        (JsonSchema({"const": {1, 2}}), "is not a JSON Schema: .*set"),
        (JsonSchema({"maximum": float("nan")}), "is not a JSON Schema"),
        (Regex("(?=a)b"), "the regular expression cannot be held: .*look-around"),
        (Regex("a{3,2}"), "the regular expression cannot be held: .*repetition"),
        (Regex("[b"), "the regular expression cannot be held: .*unclosed"),
    ],
)
def test_what_cannot_be_held_is_refused_in_one_line(constraint, said):
    with pytest.raises(RequestError, match=said) as refusal:
        compile_constraint(constraint, tiny_tokenizer(), False)
    assert "\n" not in str(refusal.value)


def test_the_library_is_loaded_only_when_it_is_needed():
    code = "import sys, ds4_backend.engine.grammar as g; assert 'llguidance' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
