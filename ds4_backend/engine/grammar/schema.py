"""Small questions about a JSON Schema. Knows no grammar and no tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ds4_backend.engine.grammar.patterns import translated
from ds4_backend.errors import RequestError

Schema = Mapping[str, Any] | bool
DEFINITIONS = ("$defs", "definitions")
OTHER_TYPES = ("null", "boolean", "number", "object", "array")
"""Every type but `string`; `integer` is a `number`."""
ENFORCED_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"}
)
"""What llguidance holds. A format that is not known is only a remark (JSON Schema, validation, 7.2.1)."""


_VALUES = ("enum", "const", "default", "examples")
"""Keywords that hold JSON, not schemas."""
_BY_NAME = ("properties", "patternProperties", "dependentSchemas", *DEFINITIONS)
"""Keywords that hold schemas under names of the caller's, which may read like keywords."""
_SAYS_NOTHING: dict[str, tuple[Any, ...]] = {
    "uniqueItems": (False,), "minProperties": (0,), "not": (False,), "propertyNames": (True, {}),
    "patternProperties": ({},), "dependentRequired": ({},), "dependentSchemas": ({},), "dependencies": ({},),
    "unevaluatedProperties": (True, {}), "unevaluatedItems": (True, {}),
}  # fmt: skip
_IN_PLACE = ("allOf", "anyOf", "oneOf", "$ref", "$dynamicRef", "if", "dependentSchemas", "patternProperties")
"""Where an object's members may be evaluated besides its own keywords."""


def adapted(schema: Any) -> Any:
    """`schema` as llguidance reads it: patterns translated, and without the keywords that say nothing or that nobody
    enforces, such as the `format` `int32`."""
    if isinstance(schema, list | tuple):
        return [adapted(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: _adapted(key, value) for key, value in meant(schema).items()}


def meant(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `schema` that say something, in words that are as plain as can be."""
    idle = {key for key, value in schema.items() if any(_same(value, idle) for idle in _SAYS_NOTHING.get(key, ()))}
    if "if" not in schema or not {"then", "else"} & schema.keys():
        idle |= {"if", "then", "else"}
    if isinstance(name := schema.get("format"), str) and name not in ENFORCED_FORMATS:
        idle.add("format")
    kept = {key: value for key, value in schema.items() if key not in idle}
    if kept.get("unevaluatedProperties") is False and not any(key in kept for key in _IN_PLACE):
        kept = {"additionalProperties": False} | kept
        del kept["unevaluatedProperties"]
    return kept


def _same(value: Any, other: Any) -> bool:
    """Equal, and of one type: in Python, 0 equals false."""
    return type(value) is type(other) and bool(value == other)


def _adapted(key: str, value: Any) -> Any:
    if key == "pattern" and isinstance(value, str):
        return translated(value)
    if key in _BY_NAME and isinstance(value, Mapping):
        return {name: adapted(schema) for name, schema in value.items()}
    return value if key in _VALUES else adapted(value)


class Subschema:
    """A schema with the document that its references point into, and its name for messages."""

    def __init__(self, schema: Any, root: Mapping[str, Any], where: str, seen: tuple[str, ...] = ()) -> None:
        if not isinstance(schema, Mapping | bool):
            raise RequestError(f"{where} is not a JSON Schema: {schema!r}")
        said = schema if isinstance(schema, Mapping) else {} if schema else {"enum": []}
        self.schema: Mapping[str, Any] = meant(said)
        self.root, self.where, self._seen = root, where, seen

    def get(self, name: str, kind: type | tuple[type, ...]) -> Any:
        """The value of `name`, None where it is absent. Raises RequestError where it is not of `kind`."""
        value = self.schema.get(name)
        if name in self.schema and (not isinstance(value, kind) or (isinstance(value, bool) and kind is int)):
            raise RequestError(f"{self.where} is not a JSON Schema: {name!r} is {value!r}")
        return value

    def members(self, name: str) -> list[Subschema] | None:
        """The schemas under `anyOf` and the like; None where there is no such keyword."""
        listed = self.get(name, (list, tuple))
        return None if listed is None else [self._inside(item) for item in listed]

    def member(self, name: str) -> Subschema | None:
        """The schema under `not` and the like."""
        return self._inside(self.schema[name]) if name in self.schema else None

    def target(self) -> Subschema | None:
        """What `$ref` points to. Raises RequestError where that is nothing, elsewhere, or the schema itself again."""
        if (reference := self.get("$ref", str)) is None:
            return None
        if reference in self._seen:
            raise RequestError(f"{self.where} cannot be held: {reference} refers to itself without end")
        return Subschema(self._at(reference), self.root, self.where, (*self._seen, reference))

    def types(self) -> frozenset[str] | None:
        """The names under `type`; None where every type is allowed."""
        named = self.get("type", (str, list, tuple))
        return None if named is None else frozenset([named] if isinstance(named, str) else self._names("type"))

    def values(self) -> Sequence[Any] | None:
        """The values that `enum` and `const` leave; None where neither is there."""
        listed = self.get("enum", (list, tuple))
        if "const" not in self.schema:
            return listed
        constant = self.schema["const"]
        return [constant] if listed is None or constant in listed else []

    def required(self) -> tuple[str, ...]:
        """The names under `required`."""
        return self._names("required")

    def _names(self, keyword: str) -> tuple[str, ...]:
        listed = self.get(keyword, (list, tuple)) or ()
        if not all(isinstance(name, str) for name in listed):
            raise RequestError(f"{self.where} is not a JSON Schema: {keyword!r} is {listed!r}")
        return tuple(listed)

    def _inside(self, schema: Any) -> Subschema:
        return Subschema(schema, self.root, self.where, self._seen)

    def _at(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise RequestError(f"{self.where} cannot be held: {reference} is outside the schema")
        place: Any = self.root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(place, Mapping) or name not in place:
                raise RequestError(f"{self.where} cannot be held: there is no {reference} in the schema")
            place = place[name]
        return place


def allows_others(sub: Subschema) -> bool:
    """Whether anything but a string may satisfy `sub`."""
    types, values = sub.types(), sub.values()
    if types is not None and not types - {"string"}:
        return False
    if values is not None and all(isinstance(value, str) for value in values):
        return False
    if (target := sub.target()) and not allows_others(target):
        return False
    if not all(map(allows_others, sub.members("allOf") or ())):
        return False
    alternatives = (sub.members("anyOf"), sub.members("oneOf"))
    return all(listed is None or any(map(allows_others, listed)) for listed in alternatives)


def others_only(sub: Subschema) -> dict[str, Any]:
    """The schema, with the definitions it needs, of the values of `sub` that are not strings."""
    own = {key: value for key, value in sub.schema.items() if key not in DEFINITIONS}
    root = Subschema(sub.root, sub.root, sub.where)
    needed = {key: {**(root.get(key, Mapping) or {}), **(sub.get(key, Mapping) or {})} for key in DEFINITIONS}
    needed = {key: value for key, value in needed.items() if value}
    types = sub.types()
    if types is not None and "string" not in types:
        return own | needed
    return {"allOf": [own, {"type": list(OTHER_TYPES)}], **needed}
