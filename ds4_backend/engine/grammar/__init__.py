"""Constrained decoding: what an answer must look like, as masks over the vocabulary.

`compile_constraint` turns a `Constraint` into a `Grammar`, or refuses it; `Grammar.matcher()` follows one answer token
by token. The parsing itself is the llguidance library's. It knows no request, no model and no sampler.
"""

from __future__ import annotations

from ds4_backend.engine.grammar.compiled import Grammar, compile_constraint
from ds4_backend.engine.grammar.constraints import Constraint, JsonObject, JsonSchema, Regex, Tools, ToolsOrText
from ds4_backend.engine.grammar.matcher import Matcher

__all__ = [
    "Constraint",
    "Grammar",
    "JsonObject",
    "JsonSchema",
    "Matcher",
    "Regex",
    "Tools",
    "ToolsOrText",
    "compile_constraint",
]
