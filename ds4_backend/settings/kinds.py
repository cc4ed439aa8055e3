"""The kinds of values a setting can hold: how each is read, and how what is allowed is said.

A kind reads what TOML or the environment holds, and raises ValueError for anything else. It knows no setting's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """`read` returns the value or raises ValueError; `allowed` completes "allowed: ..."."""

    read: Callable[[Any], Any]
    allowed: str


def _path(value: Any) -> Path:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    path = Path(value).expanduser()
    if not path.is_absolute():  # relative to what would depend on where the command was started
        raise ValueError
    return path


def _tokens(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError
    return value


_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def _size(value: Any) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
    if isinstance(value, bool) or found is None or found[2].upper() not in _UNITS:
        raise ValueError
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ValueError
    return tuple(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def _duration(value: Any) -> float:
    found = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value))
    if isinstance(value, bool) or found is None or found[2] not in _SECONDS:
        raise ValueError
    return float(found[1]) * _SECONDS[found[2]]


def _host(value: Any) -> str:
    if value in ("auto", "off"):
        return str(value)
    if not isinstance(value, str) or not re.match(r"unix:///.|https?://[^/\s]", value):
        raise ValueError
    return value


def _token(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]+", value):  # it travels in an HTTP header
        raise ValueError
    return value


def choice(*options: str) -> Kind:
    """Exactly one of `options`."""

    def read(value: Any) -> str:
        if value not in options:
            raise ValueError
        return str(value)

    return Kind(read, "one of " + ", ".join(options))


PATH = Kind(_path, "an absolute path, or one that starts with ~")
TOKENS = Kind(_tokens, "a number of tokens, 1 or more")
SIZE = Kind(_size, "a size such as 20GB, 500MB or 8GiB")
NAMES = Kind(_names, "a list of names")
SWITCH = Kind(_switch, "true or false")
DURATION = Kind(_duration, "seconds, or a time such as 90s, 5m or 1h; a negative number is for ever")
HOST = Kind(_host, "auto, off, or an address: unix:///path/of/socket or http://name:port")
TOKEN = Kind(_token, "a text of visible ASCII characters")
