"""What a caller may ask of an answer. Frozen values; they know neither tokens nor grammars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ds4_backend.types import Tool


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The visible text is one JSON value that `schema` (JSON Schema, draft 2020-12) allows."""

    schema: Mapping[str, Any] | bool


@dataclass(frozen=True, slots=True)
class JsonObject:
    """The visible text is one JSON object."""


@dataclass(frozen=True, slots=True)
class Regex:
    """The whole visible text matches `pattern`, in the syntax of Rust's `regex` crate, without look-around."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Tools:
    """Calls of the declared tools.

    `choice` is `auto` (anything goes until the model opens a call block; the block is then held to the declarations),
    `required` (the answer is a call block), or the name of the one tool to call. `parallel` allows several calls.
    """

    tools: tuple[Tool, ...]
    choice: str = "auto"
    parallel: bool = True


Text = JsonSchema | JsonObject | Regex


@dataclass(frozen=True, slots=True)
class ToolsOrText:
    """With choice `auto`: a call block, or text of the given kind. With any other choice the same as `tools` alone."""

    tools: Tools
    text: Text


Constraint = Text | Tools | ToolsOrText
