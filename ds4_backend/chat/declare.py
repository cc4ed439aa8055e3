"""A tool's declaration in one fixed form, so that the same function gives the same prompt whoever declares it.

Hosts print one function in many ways: keys in another order, titles made from names, indented docstrings, references
where others write the schema out. Each way would be another prompt, and a prompt that differs at its start shares no
cached state. This form is for the prompt alone: the grammar holds calls to the caller's own schema.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from ds4_backend.types import Tool

ORDER = (
    "$ref", "type", "description", "title", "format", "enum", "const", "anyOf", "oneOf", "allOf", "not", "if", "then",
    "else", "items", "prefixItems", "contains", "properties", "required", "additionalProperties", "patternProperties",
    "propertyNames", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
    "maxLength", "pattern", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties", "default",
    "examples",
)  # fmt: skip
"""Keywords in the order in which they are printed; others follow by name, `$defs` and `definitions` last."""

_OF_SCHEMA = {"items", "not", "if", "then", "else", "contains", "additionalProperties", "propertyNames"}
_OF_SCHEMAS = {"anyOf", "oneOf", "allOf", "prefixItems"}
_BY_NAME = {"properties", "patternProperties", "$defs", "definitions"}
_SHELVES = ("$defs", "definitions")
_MAX_INLINED = 100  # with more references than that, all of them stay: written out they might fill the context
_RANK = {keyword: rank for rank, keyword in enumerate(ORDER)} | {shelf: 1000 for shelf in _SHELVES}


def canonical_tool(tool: Tool) -> Tool:
    """`tool` as the prompt declares it.

    Descriptions lose their indentation; `$schema`, `strict`, titles that repeat a name, and on the outermost level
    `additionalProperties: false` go, the latter because no other parameters is what leaving it out means here.
    References to `$defs` are written out, unless they are recursive. Keys come in the order of `ORDER`, properties in
    the caller's, `required` in that of the properties.
    """
    schema = dict(tool.parameters)
    for keyword in ("$schema", "$id", "strict", "title"):
        schema.pop(keyword, None)
    if schema.get("additionalProperties") is False:
        del schema["additionalProperties"]
    schema = {"type": "object", "properties": {}} | schema if "$ref" not in schema else schema
    return Tool(tool.name, inspect.cleandoc(tool.description).strip(), _Writer(schema).written())


class _Writer:
    """Writes one tool's parameters anew."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._inlined = 0

    def written(self) -> dict[str, Any]:
        """The whole schema; its shelves of definitions only while something refers to them."""
        out = self._schema(self._root, "", ())
        if self._inlined > _MAX_INLINED:
            return _Untouched(self._root)._schema(self._root, "", ())
        if _refers({key: value for key, value in out.items() if key not in _SHELVES}):
            return out
        return {key: value for key, value in out.items() if key not in _SHELVES}

    def _schema(self, schema: Any, name: str, inside: tuple[str, ...]) -> Any:
        """`schema`, which stands under `name`, inside the references `inside`."""
        if not isinstance(schema, Mapping):
            return schema
        target, inside = self._target(schema, inside)
        out = {key: self._value(key, value, inside) for key, value in target.items()}
        if isinstance(out.get("description"), str):
            out["description"] = inspect.cleandoc(out["description"]).strip()
        if isinstance(out.get("title"), str) and _letters(out["title"]) in map(_letters, (name, _last(inside))):
            del out["title"]
        _order_required(out)
        return dict(sorted(out.items(), key=lambda item: (_RANK.get(item[0], len(ORDER)), item[0])))

    def _value(self, keyword: str, value: Any, inside: tuple[str, ...]) -> Any:
        if keyword in _BY_NAME and isinstance(value, Mapping):
            return {name: self._schema(schema, name, inside) for name, schema in value.items()}
        if keyword in _OF_SCHEMAS and isinstance(value, list | tuple):
            return [self._schema(schema, "", inside) for schema in value]
        return self._schema(value, "", inside) if keyword in _OF_SCHEMA else value

    def _target(self, schema: Mapping[str, Any], inside: tuple[str, ...]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """What a reference to a definition stands for, with what is written beside it; else the schema itself."""
        while self._inlined <= _MAX_INLINED and (found := self._definition(schema.get("$ref"))) is not None:
            self._inlined += 1
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            schema, inside = {**found, **beside}, (*inside, schema["$ref"])
        return schema, inside

    def _definition(self, reference: Any) -> Mapping[str, Any] | None:
        """The definition on a shelf that a `$ref` names, if it is not a recursive one."""
        if not isinstance(reference, str):
            return None
        start, _, key = reference.rpartition("/")
        shelf = self._root.get(start.removeprefix("#/")) if start.startswith("#/") else None
        found = shelf.get(key) if isinstance(shelf, Mapping) else None
        if not isinstance(found, Mapping) or self._is_recursive(reference, found):
            return None
        return found

    def _is_recursive(self, reference: str, definition: Mapping[str, Any]) -> bool:
        """Whether the definition leads back to itself."""
        seen: set[str] = set()
        waiting = _references(definition)
        while waiting:
            one = waiting.pop()
            if one == reference:
                return True
            start, _, key = one.rpartition("/")
            shelf = self._root.get(start.removeprefix("#/"))
            if one not in seen and isinstance(shelf, Mapping):
                waiting |= _references(shelf.get(key))
            seen.add(one)
        return False


class _Untouched(_Writer):
    """Leaves every reference."""

    def _definition(self, reference: Any) -> Mapping[str, Any] | None:
        return None


def _references(value: Any) -> set[str]:
    """Every `$ref` in a schema."""
    if isinstance(value, Mapping):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(_references, value.values()))
    return set().union(*map(_references, value)) if isinstance(value, list | tuple) else set()


def _refers(value: Any) -> bool:
    return bool(_references(value))


def _order_required(schema: dict[str, Any]) -> None:
    """`required` in the order of the properties; an empty one says nothing."""
    required, properties = schema.get("required"), schema.get("properties")
    if required == []:
        del schema["required"]
    elif isinstance(properties, Mapping) and isinstance(required, list) and all(isinstance(r, str) for r in required):
        places = {name: place for place, name in enumerate(properties)}
        schema["required"] = sorted(required, key=lambda name: places.get(name, len(places)))


def _letters(name: str) -> str:
    """A name as its automatic title has it, less spaces, underscores and capitals."""
    return re.sub(r"[\W_]+", "", name).lower()


def _last(inside: tuple[str, ...]) -> str:
    return inside[-1].rpartition("/")[2] if inside else ""
