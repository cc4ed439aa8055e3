"""A thousand random schemas, each as an answer's schema and as a tool's parameters."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import jsonschema
import numpy as np
import pytest
from grammar_sampling import sample, tiny_tokenizer
from grammar_schemas import random_object, random_schema

from ds4_backend.chat import Parser
from ds4_backend.engine.grammar import Constraint, JsonSchema, Tools, compile_constraint
from ds4_backend.errors import RequestError
from ds4_backend.types import Tool

SCHEMAS = 500


def outcome(constraint: Constraint, schema: dict[str, Any], rng: np.random.Generator) -> str:
    """What became of one random answer: refused, cut off, or valid. Fails where it is not."""
    tokenizer = tiny_tokenizer()
    try:
        grammar = compile_constraint(constraint, tokenizer, False)
    except RequestError as refusal:
        assert "cannot be held" in str(refusal)
        return "refused"
    ids, matcher = sample(grammar, rng)
    if not matcher.done:
        return "cut off"
    parser = Parser(tokenizer, False)
    for id in ids:
        parser.push(id)
    parser.finish()
    written = parser.calls[0].arguments if isinstance(constraint, Tools) else parser.content
    jsonschema.Draft202012Validator(schema).validate(json.loads(written))
    return "valid"


@pytest.mark.slow
@pytest.mark.parametrize("as_tool", [False, True], ids=["answers", "calls"])
def test_nearly_all_random_schemas_are_held(as_tool):
    draw, rng, outcomes = random.Random(4), np.random.default_rng(4), Counter[str]()
    for _ in range(SCHEMAS):
        schema = random_object(draw) if as_tool else random_schema(draw)
        constraint = Tools((Tool("t", parameters=schema),), "required", False) if as_tool else JsonSchema(schema)
        outcomes[outcome(constraint, schema, rng)] += 1
    assert outcomes["refused"] <= 0.05 * SCHEMAS and outcomes["cut off"] <= 0.01 * SCHEMAS, outcomes
