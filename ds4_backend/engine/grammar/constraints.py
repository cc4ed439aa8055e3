"""What a caller may ask of an answer. Frozen values; they know neither tokens nor grammars."""

from __future__ import annotations

from dataclasses import dataclass

from ds4_backend.types import JsonObject, JsonSchema, Regex, ResponseFormat, Tool

Text = ResponseFormat

__all__ = ["Constraint", "JsonObject", "JsonSchema", "Regex", "Text", "Tools", "ToolsOrText"]


@dataclass(frozen=True, slots=True)
class Tools:
    """Calls of the declared tools.

    `choice` is `auto` (anything goes until the model opens a call block; the block is then held to the declarations),
    `required` (the answer is a call block), or the name of the one tool to call. `parallel` allows several calls.
    """

    tools: tuple[Tool, ...]
    choice: str = "auto"
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class ToolsOrText:
    """With choice `auto`: a call block, or text of the given kind. With any other choice the same as `tools` alone."""

    tools: Tools
    text: Text


Constraint = Text | Tools | ToolsOrText
