"""A JSON Schema's patterns (ECMAScript) in the syntax of Rust's `regex` crate, which llguidance reads.

Knows regular expressions only. What has no counterpart, such as look-around, is left for llguidance to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_PARTS = re.compile(r"\\.|\[\^?(?:\\.|[^\]\\])*\]|[()|]|[^\\\[()|]+|.", re.DOTALL)
_IN_CLASS = re.compile(r"\\.|.", re.DOTALL)
# ECMA-262 22.2.2.9: digits and word characters are ASCII; in Rust they are Unicode's.
_ASCII = {r"\d": "0-9", r"\w": "A-Za-z0-9_"}
# Literal in an ECMAScript class, an operator in a Rust one.
_OPERATORS = "[&~"


def translated(pattern: str) -> str:
    """`pattern` with ECMAScript's meaning of digits, word characters and classes."""
    return "".join(_parts(pattern))


def anchored(pattern: str) -> str:
    """`pattern`, which a JSON Schema looks for anywhere in a string, as one for the whole string."""
    return "|".join(_whole(choice, "(?s:.*)") for choice in _choices(pattern))


def unanchored(pattern: str) -> str:
    """`pattern`, meant for a whole text, without the anchors that then say nothing."""
    return "|".join(_whole(choice, "") for choice in _choices(pattern))


def _parts(pattern: str) -> Iterator[str]:
    for part in _PARTS.findall(pattern):
        if part in _ASCII:
            yield f"[{_ASCII[part]}]"
        elif len(part) > 1 and part[0] == "[":
            negated = part[1] == "^"
            yield ("[^" if negated else "[") + "".join(map(_in_class, _IN_CLASS.findall(part[1 + negated : -1]))) + "]"
        else:
            yield part


def _in_class(part: str) -> str:
    return _ASCII.get(part) or ("\\" + part if part in _OPERATORS else part)


def _whole(choice: str, around: str) -> str:
    """One alternative, with `around` on each side that has no anchor."""
    body = choice.removeprefix("^")
    ends = body.endswith("$") and (len(body) - len(body[:-1].rstrip("\\"))) % 2 == 1
    start = around if body == choice else ""
    return f"{start}(?:{body[:-1]})" if ends else f"{start}(?:{body}){around}"


def _choices(pattern: str) -> list[str]:
    """The alternatives of a pattern, those inside brackets left alone."""
    choices, depth = [""], 0
    for part in _parts(pattern):
        depth += {"(": 1, ")": -1}.get(part, 0)
        if part == "|" and depth == 0:
            choices.append("")
        else:
            choices[-1] += part
    return choices
