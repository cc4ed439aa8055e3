"""What the declared tools say about a call: which names there are, what an argument's type is, whether all is there.

The parser repairs and judges calls by it. It looks at a caller's schemas only; it knows no markup and no grammar.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ds4_backend.types import Tool

UNKNOWN_TOOL, INVALID_ARGUMENTS = "unknown_tool", "invalid_arguments"
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A schema inside a tool's parameters; `root` is where its local references point."""

    schema: Any
    root: Any

    def member(self, name: str) -> Shape:
        """The shape of property `name`; anything goes where none is declared."""
        schema = _resolved(self.schema, self.root)
        properties = schema.get("properties")
        return Shape(properties.get(name, {}) if isinstance(properties, Mapping) else {}, self.root)

    def types(self, depth: int = 0) -> frozenset[str] | None:
        """The JSON types that it names, None where it names none."""
        schema = _resolved(self.schema, self.root)
        if depth > 8:  # a schema that refers to itself
            return None
        if "type" in schema:
            named = schema["type"]
            return frozenset([named] if isinstance(named, str) else named if isinstance(named, list) else [])
        if "const" in schema or isinstance(schema.get("enum"), list):
            values = [schema["const"]] if "const" in schema else schema["enum"]
            return frozenset(_TYPES.get(type(value), "null") for value in values)
        for keyword in ("anyOf", "oneOf"):
            if isinstance(schema.get(keyword), list):
                parts = [Shape(part, self.root).types(depth + 1) for part in schema[keyword]]
                return None if None in parts else frozenset().union(*(part for part in parts if part))
        return None


class Signatures:
    """The tools of a request. `tools` None means that they are not known: any name goes, and nothing is judged."""

    def __init__(self, tools: Sequence[Tool] | None) -> None:
        self._tools = {tool.name: tool for tool in tools or ()}
        self._unknown = tools is None

    @property
    def declared(self) -> bool:
        """Whether tools are known."""
        return bool(self._tools)

    @property
    def any(self) -> bool:
        """Whether there may be calls at all."""
        return self._unknown or self.declared

    def knows(self, name: str) -> bool:
        """Whether a tool of that name may be called."""
        return self._unknown or name in self._tools

    def complete(self, name: str, arguments: Collection[str]) -> bool:
        """Whether a declared tool has all its required arguments among these names."""
        if name not in self._tools:
            return False
        required = self._shape(name).schema.get("required")
        return all(key in arguments for key in required) if isinstance(required, list) else True

    def parameter(self, name: str, key: str) -> Shape:
        """The shape of one parameter of a tool."""
        return self._shape(name).member(key)

    def problem(self, name: str, arguments: str) -> str | None:
        """What is wrong with a whole call: UNKNOWN_TOOL, INVALID_ARGUMENTS, or None."""
        if self._unknown:
            return None
        if name not in self._tools:
            return UNKNOWN_TOOL
        return None if _allows(self._validator(name), arguments) else INVALID_ARGUMENTS

    def _shape(self, name: str) -> Shape:
        parameters = self._tools[name].parameters if name in self._tools else {}
        return Shape(_resolved(parameters, parameters), parameters)

    @functools.cache  # noqa: B019  # lives as long as one turn's parser
    def _validator(self, name: str) -> Any:
        """A `jsonschema` validator; None for a schema that is none, by which nothing can be judged."""
        import jsonschema
        import referencing

        schema = {"type": "object", **self._tools[name].parameters}
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        try:
            kind.check_schema(schema)
        except jsonschema.SchemaError:
            return None
        return kind(schema, registry=referencing.Registry())  # never fetches a reference


def as_json(text: str, shape: Shape) -> str:
    """The JSON of an argument whose markup does not say whether it is a string: its type does, else it is one."""
    types = shape.types()
    if types is not None and types != {"string"} and (value := json_text(text)) is not None:
        parsed = json.loads(value)
        kind = _TYPES.get(type(parsed), "null")
        if kind in types or (kind == "integer" and "number" in types) or "string" not in types:
            return value
    return json.dumps(text, ensure_ascii=False)


def json_text(text: str) -> str | None:
    """`text` without the white space around it if it is JSON, which NaN and Infinity are not."""
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return text.strip()


def _allows(validator: Any, arguments: str) -> bool:
    import referencing.exceptions

    if validator is None:
        return True
    try:
        return validator.is_valid(json.loads(arguments))
    except (referencing.exceptions.Unresolvable, re.error, RecursionError):
        return True  # the schema cannot be applied: no fault of the call's


def _resolved(schema: Any, root: Any) -> Mapping[str, Any]:
    """The schema that a local `$ref` points to, through a few of them; empty where there is none."""
    for _ in range(8):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return schema
        schema = root
        for part in reference.strip("#/").split("/") if reference.strip("#/") else ():
            key = part.replace("~1", "/").replace("~0", "~")
            schema = schema.get(key) if isinstance(schema, Mapping) else None
    return {}


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
