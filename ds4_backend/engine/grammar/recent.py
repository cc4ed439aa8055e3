"""The constraints used last, compiled: an agent sends the same tools with every turn.

Kept per tokenizer and dropped with it. Knows no request.
"""

from __future__ import annotations

import hashlib
import json
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ds4_backend.engine.grammar.compiled import Grammar, compile_constraint
from ds4_backend.engine.grammar.constraints import Constraint, JsonObject, JsonSchema, Text, Tools, ToolsOrText

if TYPE_CHECKING:
    import llguidance

    from ds4_backend.tokenizer import Tokenizer

KEPT = 32
"""Constraints per tokenizer; a compiled one takes kilobytes, one of a hundred tools some megabytes."""

# Without the tokenizer and without the thinking, so that neither is kept alive by its own entry.
_Compiled = tuple[bool, "llguidance.LLMatcher"]
_recent: weakref.WeakKeyDictionary[Tokenizer, OrderedDict[bytes, _Compiled]] = weakref.WeakKeyDictionary()
_using = threading.Lock()


def recent_grammar(constraint: Constraint, tokenizer: Tokenizer, thinking: bool) -> Grammar:
    """`compile_constraint`, or what it gave lately for an equal constraint. Raises RequestError as it does."""
    key = _key(constraint)
    if key is None:
        return compile_constraint(constraint, tokenizer, thinking)
    with _using:
        known = _recent.setdefault(tokenizer, OrderedDict())
        if found := known.get(key):
            known.move_to_end(key)
            return Grammar(tokenizer, thinking, *found)
    grammar = compile_constraint(constraint, tokenizer, thinking)
    with _using:
        known[key] = (grammar.text_first, grammar.compiled)
        while len(known) > KEPT:
            known.popitem(last=False)
    return grammar


def _key(constraint: Constraint) -> bytes | None:
    """Equal for constraints that give the same grammar; None for one that is not JSON (and will be refused).

    Objects keep their order: arguments are written in the order of their declaration.
    """
    try:
        text = json.dumps(_plain(constraint), default=_mapping)
    except (TypeError, ValueError, RecursionError):
        return None
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _plain(constraint: Constraint) -> list[Any]:
    match constraint:
        case Tools(tools, choice, parallel):
            return ["tools", [[tool.name, tool.parameters] for tool in tools], choice, parallel]
        case ToolsOrText(tools, text):
            return ["either", _plain(tools), _plain_text(text)]
        case _:
            return _plain_text(constraint)


def _plain_text(text: Text) -> list[Any]:
    match text:
        case JsonSchema(schema):
            return ["schema", schema]
        case JsonObject():
            return ["object"]
        case _:
            return ["regex", text.pattern]


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
