"""Writes a grammar in llguidance's dialect of Lark, and finds the piece that it refuses.

Knows spelling only: no tool, no call format. Rules are lower case; terminals, upper case, are one regular language each
and may use `&` and `~`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ds4_backend.engine.grammar.schema import adapted
from ds4_backend.errors import RequestError

if TYPE_CHECKING:
    import llguidance

# The separators of the trained format; see the JSON in the model's own prompts.
JSON_LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
ADVICE = "; change it, or ask without it"
_TO_ESCAPE = re.compile(r"\\.|[/\n\r]", re.DOTALL)
_EXCERPT = re.compile(r"\s*(\d+ \||\^|\|)")  # source lines of the grammar, and pointers into them
_NO_TOKEN = "NoExtensionBias"
_PLACE = re.compile(r"^(at )?\d+\(\d+\): |failed to compile JSON schema: | \(in regex\)")


def quoted(text: str) -> str:
    """A literal."""
    return json.dumps(text)


def regex(pattern: str) -> str:
    """A regular expression between slashes, with the slashes and line ends in it escaped."""
    # Two slashes would open a comment.
    return f"/{_TO_ESCAPE.sub(_escaped, pattern)}/" if pattern else quoted("")


def special(id: int) -> str:
    """A special token."""
    return f"<[{id}]>"


class Lark:
    """A grammar under construction. `where` names a piece for the caller, should it be refused."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names: dict[str, str] = {}  # from a body to its name: equal pieces are written once
        self._values: list[tuple[str, str]] = []  # where, and the piece as a grammar of its own
        self._terminals: list[tuple[str, str]] = []

    def rule(self, name: str, *alternatives: str) -> str:
        """Add a rule under a name of the caller's; returns the name."""
        self._lines.append(f"{name}: " + " | ".join(alternatives))
        return name

    def json(self, schema: Mapping[str, Any] | bool, where: str) -> str:
        """The name of a rule for one JSON value that `schema` allows.

        Raises RequestError where `schema` is not itself JSON.
        """
        if not isinstance(schema, Mapping | bool):
            raise RequestError(f"{where} is not a JSON Schema: {schema!r}")
        wrapped = dict(schema) if isinstance(schema, Mapping) else ({} if schema else {"enum": []})
        try:
            text = json.dumps(adapted(wrapped) | {"x-guidance": JSON_LAYOUT}, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestError(f"{where} is not a JSON Schema: {error}") from error
        return self._piece(self._values, "json", f"%json {text}", where)

    def terminal(self, expression: str, where: str) -> str:
        """The name of a terminal."""
        return self._piece(self._terminals, "TEXT", expression, where)

    def text(self) -> str:
        """The whole grammar; it starts at the rule `start`."""
        return "\n".join(self._lines) + "\n"

    def compile(self, tokenizer: llguidance.LLTokenizer) -> llguidance.LLMatcher:
        """Raises RequestError with the reason, and the first piece to blame, where no text can satisfy the grammar or
        llguidance cannot hold it."""
        for where, piece in self._terminals:
            if fault := _fault(_matcher(piece, tokenizer)):
                raise RequestError(f"{where} cannot be held: {fault}{ADVICE}")
        matcher = _matcher(self.text(), tokenizer)
        if fault := _fault(matcher):
            for where, piece in self._values:
                if said := _fault(_matcher(piece, tokenizer)):
                    raise RequestError(f"{where} cannot be held: {said}{ADVICE}")
            raise RequestError(f"the constraint cannot be held: {fault}{ADVICE}")
        return matcher

    def _piece(self, pieces: list[tuple[str, str]], prefix: str, body: str, where: str) -> str:
        if body not in self._names:
            name = self._names[body] = f"{prefix}_{len(self._names)}"
            self.rule(name, body)
            pieces.append((where, f"start: {name}\n{name}: {body}\n"))
        return self._names[body]


def _matcher(grammar: str, tokenizer: llguidance.LLTokenizer) -> llguidance.LLMatcher:
    import llguidance

    return llguidance.LLMatcher(tokenizer, grammar, log_level=0)


def _fault(matcher: llguidance.LLMatcher) -> str:
    """Why no answer can come of it; empty if one can."""
    if matcher.is_error():
        return _reason(matcher.get_error())
    probe = matcher.deep_copy()
    probe.compute_bitmask()  # only when asked for the first token does the library notice that there is none
    if probe.is_error() and _NO_TOKEN not in probe.get_error():
        return _reason(probe.get_error())
    return "nothing can satisfy it" if probe.is_error() or (probe.is_stopped() and not probe.is_accepting()) else ""


def _reason(error: str) -> str:
    """The library's message without the places in a grammar that the caller has never seen."""
    lines = [line.strip() for line in error.splitlines() if not _EXCERPT.match(line)]
    return _PLACE.sub("", " ".join(filter(None, lines)))


def _escaped(match: re.Match[str]) -> str:
    return {"/": r"\/", "\n": r"\n", "\r": r"\r", "\\\n": r"\n", "\\\r": r"\r"}.get(match[0], match[0])
