"""From a `Constraint` to a `Grammar`: the parts that are free, and the compiled part that is held.

Knows the turn's shape (thinking, text, call block), not how tokens are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds4_backend.engine.grammar.calls import CallGrammar
from ds4_backend.engine.grammar.constraints import Constraint, JsonObject, JsonSchema, Text, Tools, ToolsOrText
from ds4_backend.engine.grammar.lark import Lark, regex, special
from ds4_backend.engine.grammar.matcher import Matcher
from ds4_backend.engine.grammar.patterns import unanchored
from ds4_backend.engine.grammar.vocabulary import grammar_tokenizer
from ds4_backend.errors import RequestError
from ds4_backend.tokenizer import DSML

if TYPE_CHECKING:
    import llguidance

    from ds4_backend.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Grammar:
    """A compiled constraint; immutable, safe to share between threads.

    `thinking` says whether the turn starts inside `<think>`. `text_first` says whether text is free until a call block
    opens (tool choice `auto`); if not, the grammar holds from the end of the thinking on.
    """

    tokenizer: Tokenizer
    thinking: bool
    text_first: bool
    compiled: llguidance.LLMatcher  # at its start; copied for each answer

    def matcher(self) -> Matcher:
        """A matcher at the start of an answer."""
        return Matcher(self.tokenizer, self.compiled, thinking=self.thinking, text_first=self.text_first)


def compile_constraint(constraint: Constraint, tokenizer: Tokenizer, thinking: bool) -> Grammar:
    """Make `constraint` ready for an answer that starts inside `<think>` if `thinking` (`Rendered.thinking`).

    The first call for a tokenizer prepares its vocabulary, which takes a second or two for a real one.

    Raises RequestError with the reason where the constraint is impossible, or uses what cannot be held.
    """
    lark, dsml = Lark(), special(tokenizer.token_id(DSML))
    text_first = isinstance(constraint, Tools) and constraint.choice == "auto"
    try:
        lark.rule("start", *_alternatives(constraint, lark, dsml))
    except RecursionError as error:
        raise RequestError("the constraint cannot be held: its schema is nested too deeply") from error
    return Grammar(tokenizer, thinking, text_first, lark.compile(grammar_tokenizer(tokenizer)))


def _alternatives(constraint: Constraint, lark: Lark, dsml: str) -> list[str]:
    """The bodies of the start rule."""
    if isinstance(constraint, Tools):
        calls = CallGrammar(lark, dsml).block(constraint)
        # In `auto` the model has written "<" and DSML itself when the grammar takes over.
        return [calls if constraint.choice == "auto" else rf'"\n\n<" {dsml} {calls}']
    if isinstance(constraint, ToolsOrText):
        calls = rf'"\n\n<" {dsml} {CallGrammar(lark, dsml).block(constraint.tools)}'
        return [calls, _text(constraint.text, lark)] if constraint.tools.choice == "auto" else [calls]
    return [_text(constraint, lark)]


def _text(text: Text, lark: Lark) -> str:
    match text:
        case JsonSchema(schema):
            return lark.json(schema, "the schema of the answer")
        case JsonObject():
            return lark.json({"type": "object"}, "a JSON object")
        case _:
            return lark.terminal(regex(unanchored(text.pattern)), "the regular expression")
