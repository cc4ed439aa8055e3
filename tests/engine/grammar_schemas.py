"""Random JSON Schemas of the common kinds: for tests of ds4_backend/engine/grammar."""

from __future__ import annotations

import random
from typing import Any

NAMES = ("a", "name", "x-y", "city of", "é", "n/m", "</x>")
VALUES = ("red", "b c", 1, 2.5, None, True, "", "é\n", [1, "x"], {"k": 0})
PATTERNS = ("^[a-z]+$", "\\d", "^(foo|bar)-\\w{2,4}$", "[^/]+/[^/]+", "^[^\\s]{1,5}$", ".", "^$")
FORMATS = ("date", "email", "uuid", "ipv4", "time", "int64")
DEFINITIONS = {
    "List": {
        "type": "object",
        "properties": {"v": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/List"}, {"type": "null"}]}},
        "required": ["v"],
        "additionalProperties": False,
    },
    "Level": {"enum": ["one", "two"]},
}


def random_object(draw: random.Random, depth: int = 2) -> dict[str, Any]:
    """A schema of an object, with the definitions it may refer to."""
    return _object(draw, depth) | {"$defs": DEFINITIONS}


def random_schema(draw: random.Random, depth: int = 3) -> dict[str, Any]:
    """A schema of any kind, with the definitions it may refer to."""
    return _schema(draw, depth) | {"$defs": DEFINITIONS}


def _schema(draw: random.Random, depth: int) -> dict[str, Any]:
    flat = (_string, _string, _number, _number, _simple, _simple)
    return draw.choice(flat + ((_object, _object, _array, _combined, _combined) if depth else ()))(draw, depth)


def _string(draw: random.Random, depth: int) -> dict[str, Any]:
    least = draw.randint(0, 4)
    bounds = {"minLength": least, "maxLength": draw.randint(least, 12)}
    rules = ({}, bounds, {"pattern": draw.choice(PATTERNS)}, {"format": draw.choice(FORMATS)})
    return {"type": "string"} | draw.choice(rules)


def _number(draw: random.Random, depth: int) -> dict[str, Any]:
    low, high = (
        {draw.choice(("minimum", "exclusiveMinimum")): draw.randint(-50, 50)},
        {"maximum": draw.randint(60, 500)},
    )
    rules = ({}, low, high, low | high, {"multipleOf": draw.choice((2, 5, 10))})
    return {"type": draw.choice(("integer", "number"))} | draw.choice(rules)


def _simple(draw: random.Random, depth: int) -> dict[str, Any]:
    return draw.choice(
        (
            {"type": "boolean"},
            {"type": draw.sample(("string", "integer", "null", "boolean"), 2)},
            {"enum": draw.sample(VALUES, draw.randint(1, 5))},
            {"const": draw.choice(VALUES)},
            {"$ref": draw.choice(("#/$defs/List", "#/$defs/Level"))},
        )
    )


def _object(draw: random.Random, depth: int) -> dict[str, Any]:
    properties = {name: _schema(draw, depth - 1) for name in draw.sample(NAMES, draw.randint(0, 4))}
    required = draw.sample(list(properties), draw.randint(0, len(properties)))
    others = draw.choice(({}, {"additionalProperties": False}, {"additionalProperties": _schema(draw, 0)}))
    return {"type": "object", "properties": properties, "required": required} | others


def _array(draw: random.Random, depth: int) -> dict[str, Any]:
    listed = {"items": _schema(draw, depth - 1), "minItems": draw.randint(0, 2), "maxItems": draw.randint(2, 4)}
    places = {"prefixItems": [_schema(draw, depth - 1) for _ in range(draw.randint(1, 3))], "items": False}
    return {"type": "array"} | draw.choice((listed, places))


def _combined(draw: random.Random, depth: int) -> dict[str, Any]:
    some = [_schema(draw, depth - 1) for _ in range(draw.randint(1, 3))]
    apart = [{"type": "string"}, {"type": "integer"}, {"type": "null"}]
    return draw.choice(({"anyOf": some}, {"allOf": some[:1]}, {"oneOf": apart[: draw.randint(1, 3)]}))
