"""Random answers under a grammar: for tests of ds4_backend/engine/grammar."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources

import numpy as np

from ds4_backend.engine.grammar import Grammar, Matcher
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.tokenizer import DSML, Tokenizer

CLOSERS = ('"', "}", "]", "</")
"""A quote is one token in 4,096: an even draw would fill a string for hours. So every other draw is among these, or is
the special token that closes a bare string, where that may come."""


@functools.cache
def tiny_tokenizer() -> Tokenizer:
    """The tokenizer of ds4-tiny."""
    with open_gguf(str(resources.files("ds4_backend") / "assets" / "ds4-tiny.gguf")) as file:
        return Tokenizer.from_gguf(file.metadata)


@functools.cache
def closers(tokenizer: Tokenizer) -> list[int]:
    return [tokenizer.token_id(text) for text in CLOSERS]


def sample(
    grammar: Grammar, rng: np.random.Generator, start: Sequence[int] = (), limit: int = 3000
) -> tuple[list[int], Matcher]:
    """The tokens of an answer that begins with `start`, drawn evenly from what the mask allows, and the matcher."""
    tokenizer, matcher = grammar.tokenizer, grammar.matcher()
    answer = list(start)
    for id in start:
        matcher.accept(id)
    while not matcher.done and len(answer) < limit:
        for id in matcher.forced():
            matcher.accept(id)
            answer.append(id)
        if not matcher.done:
            answer.append(_draw(matcher, tokenizer, rng))
            matcher.accept(answer[-1])
    return answer, matcher


def _draw(matcher: Matcher, tokenizer: Tokenizer, rng: np.random.Generator) -> int:
    mask = matcher.mask()
    allowed = np.arange(tokenizer.vocab_size) if mask is None else np.flatnonzero(mask)
    if rng.random() < 0.5:
        special = [id for id in (tokenizer.token_id(DSML), tokenizer.eos) if mask is not None and mask[id]]
        closing = special or [id for id in closers(tokenizer) if mask is None or mask[id]]
        allowed = closing or allowed
    return int(rng.choice(allowed))


def accepts(grammar: Grammar, text: str) -> bool:
    """Whether the answer may be `text` (special tokens recognised), and may end there."""
    tokenizer, matcher = grammar.tokenizer, grammar.matcher()
    for id in [*tokenizer.encode(text, control=True), tokenizer.eos]:
        mask = matcher.mask()
        if mask is not None and not mask[id]:
            return False
        matcher.accept(id)
    return matcher.done
