"""The schemas of a public API as formats of an answer: random answers under them, valid and invalid instances."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from grammar_drawing import drawn_answer, tally
from grammar_sampling import accepts, tiny_tokenizer
from model_schemas import invalid_instance, model_schemas, valid_instance

from ds4_backend.engine.grammar import compile_constraint
from ds4_backend.types import JsonSchema


def holds(seed: int, schema: dict[str, Any]) -> bool:
    """Whether a random answer under `schema` ends. Fails where it is not valid, or where the grammar does not accept
    a valid instance, or accepts an invalid one."""
    ids = drawn_answer(seed, response_format=JsonSchema(schema))
    if ids is not None:
        jsonschema.Draft202012Validator(schema).validate(json.loads(tiny_tokenizer().decode(ids)))
    grammar = compile_constraint(JsonSchema(schema), tiny_tokenizer(), False)
    assert accepts(grammar, json.dumps(valid_instance(schema), ensure_ascii=False))
    assert not accepts(grammar, json.dumps(invalid_instance(schema), ensure_ascii=False))
    return ids is not None


@pytest.mark.slow
def test_a_thousand_schemas_of_a_public_api_are_held():
    schemas = model_schemas(1000)
    tally(len(schemas), lambda seed: holds(seed, schemas[seed]))
