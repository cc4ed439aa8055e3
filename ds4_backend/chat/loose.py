"""A parameter whose tag does not say whether its value is a string, and parameters nested in one.

The declared type decides (chat/signatures.py). Knows text with MARK in it, and no events.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from ds4_backend.chat.markup import CLOSERS, PARAMETER, literal, read_tag
from ds4_backend.chat.signatures import Shape, as_json, json_text


@dataclass(frozen=True, slots=True)
class Loose:
    """A value as JSON text; `end` is the position after its closing tag."""

    json: str
    end: int
    nested: bool = False


def read_loose(text: str, start: int, shape: Shape) -> Loose | None:
    """The value that begins at `start`, right after the parameter's opening tag; None while it is not closed.

    Parameters inside it are the members of an object; anything else between them is left out.
    """
    if (tag := read_tag(text, start)) and tag.opens(PARAMETER):
        return _read_members(text, start, shape)
    end = text.find(CLOSERS[0], start)
    return None if end < 0 else Loose(as_json(literal(text[start:end]), shape), end + len(CLOSERS[0]))


def _read_members(text: str, position: int, shape: Shape) -> Loose | None:
    members: list[str] = []
    while tag := read_tag(text, position):
        if tag.closes(PARAMETER):
            return Loose("{" + ", ".join(members) + "}", tag.end, nested=True)
        name = tag.attributes.get("name")
        if not tag.opens(PARAMETER) or name is None:
            return None
        member = _read_member(text, tag.end, tag.attributes.get("string"), shape.member(name))
        if member is None:
            return None
        members.append(f"{json.dumps(name, ensure_ascii=False)}: {member.json}")
        position = member.end
    return None


def _read_member(text: str, start: int, string: str | None, shape: Shape) -> Loose | None:
    if string not in ("true", "false"):
        return read_loose(text, start, shape)
    end = text.find(CLOSERS[0], start)
    if end < 0:
        return None
    value = literal(text[start:end])
    whole = json_text(value) if string == "false" else None
    return Loose(whole or json.dumps(value, ensure_ascii=False), end + len(CLOSERS[0]))
