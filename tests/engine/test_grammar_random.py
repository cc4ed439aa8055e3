"""A thousand random schemas, each as an answer's schema or as a tool's parameters, and random answers under them."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from grammar_drawing import drawn_answer, tally
from grammar_sampling import tiny_tokenizer
from grammar_schemas import random_object, random_schema

from ds4_backend.chat import Parser
from ds4_backend.types import JsonSchema, Tool

Schema = dict[str, Any]


def answered(seed: int, schema: Schema) -> str | None:
    """The text of a random answer under `schema`; None where it was cut off."""
    ids = drawn_answer(seed, response_format=JsonSchema(schema))
    return None if ids is None else tiny_tokenizer().decode(ids)


def called(seed: int, schema: Schema) -> str | None:
    """The arguments of a random call that was forced, as the answer's own parser reads them."""
    tool = Tool("t", parameters=schema)
    ids = drawn_answer(seed, tools=(tool,), tool_choice="t", parallel_tool_calls=False)
    if ids is None:
        return None
    parser = Parser(tiny_tokenizer(), False)
    for id in ids:
        parser.push(id)
    parser.finish()
    (call,) = parser.calls
    assert not parser.malformed and call.name == "t"
    return call.arguments


def outcomes(
    count: int, make: Callable[[random.Random], Schema], write: Callable[[int, Schema], str | None]
) -> Counter[str]:
    """What became of `count` random answers. Fails for one that does not satisfy its schema."""
    draw = random.Random(4)

    def valid(seed: int) -> bool:
        schema = make(draw)
        if (text := write(seed, schema)) is not None:
            jsonschema.Draft202012Validator(schema).validate(json.loads(text))
        return text is not None

    return tally(count, valid)


@pytest.mark.parametrize("make, write", [(random_schema, answered), (random_object, called)], ids=["answers", "calls"])
def test_random_schemas_are_held(make, write):
    assert outcomes(15, make, write)["valid"] == 15


@pytest.mark.slow
@pytest.mark.parametrize("make, write", [(random_schema, answered), (random_object, called)], ids=["answers", "calls"])
def test_nearly_all_of_five_hundred_random_schemas_are_held(make, write):
    outcomes(500, make, write)
