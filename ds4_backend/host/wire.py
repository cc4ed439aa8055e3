"""Requests, events and errors as plain JSON, and back.

Driven by the type hints of types.py, so that a new field there needs nothing here. Fields at their default are left
out, and unknown ones are refused. It knows no connection and no engine.
"""

from __future__ import annotations

import base64
import dataclasses
import math
import sys
import types
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ds4_backend import errors
from ds4_backend.errors import DS4Error, EngineError, HostError, RequestError
from ds4_backend.types import Event, Failed, Request

PROTOCOL = 1
"""Goes up with every change that a client or a host of the number before would misread."""
TAG = "type"


def request_to(request: Request) -> dict[str, Any]:
    """`request` as JSON values."""
    return _plain(request, Request)


def request_from(value: Any) -> Request:
    """The other way. Raises RequestError naming the field that is not understood."""
    try:
        found = _value(value, Request, "request")
    except ValueError as error:
        raise RequestError(f"the request is not understood: {error}") from error
    assert isinstance(found, Request)
    if found.keep_alive is not None and not math.isfinite(found.keep_alive):
        raise RequestError(f"keep_alive is {found.keep_alive}; it must be a number of seconds, a negative one for ever")
    return found


def event_to(event: Event) -> dict[str, Any]:
    """`event` as JSON values, its class under `type`."""
    if isinstance(event, Failed):
        return {TAG: "Failed", "error": error_to(event.error)}
    return _plain(event, Event)


def event_from(value: Any) -> Event:
    """The other way. Raises HostError for what is no event."""
    if isinstance(value, dict) and value.get(TAG) == "Failed":
        return Failed(error_from(value.get("error")))
    try:
        return _value(value, Event, "event")
    except ValueError as error:
        raise HostError(f"the host's answer is not understood: {error}") from error


def error_to(error: BaseException) -> dict[str, str]:
    """`error` by the name of its class in the tree of errors.py; anything outside the tree is an EngineError."""
    for kind in type(error).__mro__:
        if getattr(errors, kind.__name__, None) is kind:
            return {"class": kind.__name__, "text": str(error)}
    return {"class": "EngineError", "text": f"{type(error).__name__}: {error}"}


def error_from(value: Any) -> DS4Error:
    """The other way; a class that is unknown here becomes an EngineError with the same text."""
    if not isinstance(value, dict):
        return EngineError(f"an error that is not understood: {value!r}")
    found = getattr(errors, str(value.get("class")), None)
    kind = found if isinstance(found, type) and issubclass(found, DS4Error) else EngineError
    return kind(str(value.get("text", "")))


@lru_cache(maxsize=64)
def _hints(kind: type) -> dict[str, Any]:
    # Not with the class's own names, the default: a field may be called as its type is (`bytes`).
    return get_type_hints(kind, vars(sys.modules[kind.__module__]), {})


@lru_cache(maxsize=64)
def _defaults(kind: type) -> dict[str, Any]:
    """Name -> default of every field that has one."""
    found = {}
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    return found


def _plain(value: Any, hint: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain_fields(value, tagged=_several(hint))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, tuple | list):
        inner = get_args(hint)[0] if get_origin(hint) is tuple else Any
        return [_plain(one, inner) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(one, Any) for key, one in value.items()}
    return value


def _plain_fields(value: Any, tagged: bool) -> dict[str, Any]:
    kind: Any = type(value)
    defaults = _defaults(kind)
    found: dict[str, Any] = {TAG: kind.__name__} if tagged else {}
    for name, hint in _hints(kind).items():
        one = getattr(value, name)
        if name not in defaults or not _same(one, defaults[name]):
            found[name] = _plain(one, hint)
    return found


def _same(one: Any, other: Any) -> bool:
    """Equal, and of one type: False is no 0."""
    return type(one) is type(other) and one == other


def _several(hint: Any) -> bool:
    """Whether a value of this type may be one of several dataclasses, so that its class must be told."""
    return sum(dataclasses.is_dataclass(one) for one in _options(hint)) > 1


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _value(value: Any, hint: Any, at: str) -> Any:
    """`value` as `hint` asks for. Raises ValueError saying where it is not that."""
    options = _options(hint)
    if len(options) > 1:
        return _one_of(value, options, at)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _record(value, hint, at)
    origin = get_origin(hint)
    if origin is Literal:  # which words are allowed is for the engine to say, whose text names them
        return _scalar(value, str, at)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{at} is not a list")
        return tuple(_value(one, get_args(hint)[0], f"{at}[{i}]") for i, one in enumerate(value))
    if origin is not None:  # Mapping[key, value]
        key, inner = get_args(hint)
        return _mapping(value, key, inner, at)
    return _scalar(value, hint, at)


def _one_of(value: Any, options: tuple[Any, ...], at: str) -> Any:
    if value is None and type(None) in options:
        return None
    records = {one.__name__: one for one in options if dataclasses.is_dataclass(one) and isinstance(one, type)}
    if len(records) > 1:
        if not isinstance(value, dict) or value.get(TAG) not in records:
            raise ValueError(f"{at} is none of {', '.join(records)}")
        rest = {name: one for name, one in value.items() if name != TAG}
        return _record(rest, records[value[TAG]], at)
    causes = []
    for option in options:
        try:
            return _value(value, option, at)
        except ValueError as error:
            causes.append(str(error))
    raise ValueError(causes[0])


def _record(value: Any, kind: Any, at: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{at} is not an object")
    hints = _hints(kind)
    for name in value:
        if name not in hints:
            raise ValueError(f"{at} has an unknown field {name!r}; it was made by another version of ds4-backend")
    for name in hints:
        if name not in value and name not in _defaults(kind):
            raise ValueError(f"{at} lacks the field {name!r}")
    return kind(**{name: _value(one, hints[name], f"{at}.{name}") for name, one in value.items()})


def _mapping(value: Any, key_hint: Any, value_hint: Any, at: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{at} is not an object")
    found = {}
    for text, one in value.items():
        try:
            key = int(text) if key_hint is int else text
        except ValueError:
            raise ValueError(f"{at} has the key {text!r}, which is no whole number") from None
        found[key] = _value(one, value_hint, f"{at}.{text}")
    return found


def _scalar(value: Any, kind: Any, at: str) -> Any:
    if kind is bytes:
        if not isinstance(value, str):
            raise ValueError(f"{at} is not base64 text")
        return base64.b64decode(value, validate=True)
    allowed = (int, float) if kind is float else kind
    if (isinstance(value, bool) and kind is not bool) or not isinstance(value, allowed):
        raise ValueError(f"{at} is not of type {kind.__name__}")
    return value
