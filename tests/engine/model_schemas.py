"""The JSON Schemas of a public API: every model of the `openai` package's types. With instances of them."""

from __future__ import annotations

import copy
import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator
from typing import Any

import jsonschema

Schema = dict[str, Any]


def model_schemas(count: int) -> list[Schema]:
    """The schemas of `count` models, evenly spread over all of them in the order of their names."""
    models = sorted(_models(), key=lambda model: (model.__module__, model.__name__))
    assert len(models) >= count, f"the installed openai package has only {len(models)} models"
    chosen = [models[index * len(models) // count] for index in range(count)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [model.model_json_schema() for model in chosen]


def _models() -> Iterator[Any]:
    import openai.types as root
    from pydantic import BaseModel

    for found in pkgutil.walk_packages(root.__path__, "openai.types."):
        module = importlib.import_module(found.name)
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, BaseModel) and value.__module__ == found.name:
                yield value


def valid_instance(schema: Schema) -> Any:
    """A value that satisfies `schema`, written without looking at any grammar."""
    value = next(_instances(schema, schema, 0))
    jsonschema.Draft202012Validator(schema).validate(value)
    return value


def invalid_instance(schema: Schema) -> Any:
    """A value next to a valid one that does not satisfy `schema`. Raises StopIteration where none is found."""
    checker = jsonschema.Draft202012Validator(schema)
    return next(value for value in _changed(valid_instance(schema)) if not checker.is_valid(value))


def _instances(schema: Any, root: Schema, depth: int) -> Iterator[Any]:
    """A few candidates: the members of a model are in the order of its declaration, as the grammar wants them."""
    if "$ref" in schema:
        target = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        yield from _instances(target, root, depth)
    elif "const" in schema:
        yield schema["const"]
    elif "enum" in schema:
        yield from schema["enum"]
    elif options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        for option in sorted(options, key=lambda option: ("$ref" in option) and depth > 1):
            yield from _instances(option, root, depth)
    else:
        yield _of_type(schema, root, depth)


def _of_type(schema: Any, root: Schema, depth: int) -> Any:
    match schema.get("type"):
        case "object":
            required = schema.get("required", ())
            properties = schema.get("properties", {})
            # The optional ones too, on top; deeper they may refer to themselves.
            names = [name for name in properties if name in required or depth == 0]
            return {name: next(_instances(properties[name], root, depth + 1)) for name in names}
        case "array":
            return [next(_instances(schema["items"], root, depth + 1))] if depth < 3 and "items" in schema else []
        case "integer":
            return int(schema.get("minimum", 7))
        case "number":
            return float(schema.get("minimum", 0.5))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return "a \"quoted\" 'é'\n"


def _changed(value: Any) -> Iterator[Any]:
    """`value` with one thing about it changed: another type, a member or a required one less."""
    if isinstance(value, dict):
        for name in value:
            yield {key: inner for key, inner in value.items() if key != name}
            for other in _changed(value[name]):
                yield {**copy.copy(value), name: other}
    yield from ([], {}, 3, "no such value", None, True)
