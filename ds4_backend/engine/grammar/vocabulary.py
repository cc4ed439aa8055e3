"""Our tokenizer in the shape that llguidance wants: built once per tokenizer, on first use.

A vocabulary of 129,280 tokens takes a second or two.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from ds4_backend.errors import EngineError

if TYPE_CHECKING:
    import llguidance

    from ds4_backend.tokenizer import Tokenizer

LARGE = 1 << 15
"""Tokens from which on building takes long enough to be worth a thread."""

_built: weakref.WeakKeyDictionary[Tokenizer, llguidance.LLTokenizer] = weakref.WeakKeyDictionary()
_building = threading.Lock()


def grammar_tokenizer(tokenizer: Tokenizer) -> llguidance.LLTokenizer:
    """The library's own form of `tokenizer`. Added tokens are special there: no text ever spells one."""
    with _building:
        if (known := _built.get(tokenizer)) is None:
            known = _built[tokenizer] = _build(tokenizer)
        return known


def prepare(tokenizer: Tokenizer) -> None:
    """Build it on a thread of its own, if it is large, so that the first constraint need not wait for it."""
    if tokenizer.vocab_size >= LARGE:
        threading.Thread(target=grammar_tokenizer, args=(tokenizer,), name="ds4-grammar", daemon=True).start()


def _build(tokenizer: Tokenizer) -> llguidance.LLTokenizer:
    import llguidance

    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Adapter(tokenizer)))


class _Adapter:
    """The attributes that llguidance reads, and the call with which it tokenises forced text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        ids = range(tokenizer.vocab_size)
        self.eos_token_id = tokenizer.eos
        self.bos_token_id = tokenizer.bos
        self.special_token_ids = [id for id in ids if tokenizer.is_special(id)]
        # A hole in the vocabulary has no bytes here, so no text leads to it.
        usable = [tokenizer.is_special(id) or tokenizer.is_normal(id) for id in ids]
        self.tokens = [tokenizer.token_bytes(id) if usable[id] else b"" for id in ids]
        self._tokenizer = weakref.ref(tokenizer)  # a strong one would keep the cache's key alive for ever

    def __call__(self, text: bytes) -> list[int]:
        tokenizer = self._tokenizer()
        if tokenizer is None:
            raise EngineError("the tokenizer of a running constraint is gone: keep it alive as long as the answer")
        return tokenizer.encode(text.decode("utf-8"))
