"""Follows one answer under a grammar: which tokens may come next, and which must.

It knows token ids, not logits. Thinking and free text are followed here; the held part is llguidance's.
"""

from __future__ import annotations

import copy
import functools
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ds4_backend.errors import EngineError
from ds4_backend.tokenizer import DSML, THINK_END

if TYPE_CHECKING:
    import llguidance

    from ds4_backend.tokenizer import Tokenizer

Mask = NDArray[np.bool_]


class _State(Enum):
    THINKING = "before </think>"
    TEXT = "free text that may open a call block"
    HELD = "under the grammar"
    DONE = "complete"


class Matcher:
    """One answer. Before each token: take `forced()` if there are any, else draw one that `mask()` allows; then
    `accept` it. Stop when `done`."""

    def __init__(
        self, tokenizer: Tokenizer, compiled: llguidance.LLMatcher, *, thinking: bool, text_first: bool
    ) -> None:
        self._tokenizer, self._compiled = tokenizer, compiled.deep_copy()
        self._after_thinking = _State.TEXT if text_first else _State.HELD
        self._state = _State.THINKING if thinking else self._after_thinking
        self._think_end, self._dsml = tokenizer.token_id(THINK_END), tokenizer.token_id(DSML)
        self._angle = False  # TEXT: whether the text ends in "<"

    @property
    def done(self) -> bool:
        """Whether the answer is complete: nothing but the end-of-sentence token may follow."""
        return self._state is _State.DONE

    def mask(self) -> Mask | None:
        """Bool [V], true where the token may come next; None where every token may. Not to be written to.

        The end-of-sentence token is allowed where the answer may end. Raises EngineError where the grammar has become
        too complex to go on.
        """
        match self._state:
            case _State.TEXT:
                return None
            case _State.THINKING:
                # An answer that ends in its thinking would escape the constraint.
                return None if self._after_thinking is _State.TEXT else self._all_but_end
            case _State.DONE:
                return ~self._all_but_end
        packed = np.frombuffer(self._compiled.compute_bitmask(), dtype=np.uint8)
        self._check()
        size = self._tokenizer.vocab_size
        return np.unpackbits(packed, count=size, bitorder="little").view(np.bool_)

    def forced(self) -> tuple[int, ...]:
        """The tokens that must come next, in their usual cut, to be accepted without drawing; empty where the model
        has a choice. They are not yet accepted."""
        if self._state is not _State.HELD:
            return ()
        tokens = tuple(self._compiled.compute_ff_tokens())
        self._check()
        return tokens

    def accept(self, token: int) -> None:
        """The answer goes on with `token`. Raises EngineError for one that `mask` does not allow; nothing changes."""
        match self._state:
            case _State.THINKING:
                self._accept_thinking(token)
            case _State.TEXT:
                self._accept_text(token)
            case _State.HELD:
                self._accept_held(token)
            case _State.DONE:
                self._refuse_unless(token == self._tokenizer.eos, token)

    def copy(self) -> Matcher:
        """A matcher at the same place, independent from here on."""
        twin = copy.copy(self)
        twin._compiled = self._compiled.deep_copy()
        return twin

    @functools.cached_property
    def _all_but_end(self) -> Mask:
        mask = np.ones(self._tokenizer.vocab_size, dtype=np.bool_)
        mask[self._tokenizer.eos] = False
        mask.flags.writeable = False
        return mask

    def _accept_thinking(self, token: int) -> None:
        ends = token == self._tokenizer.eos
        self._refuse_unless(not ends or self._after_thinking is _State.TEXT, token)
        if ends:
            self._state = _State.DONE
        elif token == self._think_end:
            self._state = self._after_thinking

    def _accept_text(self, token: int) -> None:
        if token == self._tokenizer.eos:
            self._state = _State.DONE
        elif token == self._dsml and self._angle:
            self._state = _State.HELD
        self._angle = self._tokenizer.token_bytes(token).endswith(b"<")

    def _accept_held(self, token: int) -> None:
        self._refuse_unless(self._compiled.try_consume_tokens([token]) == 1, token)
        if token == self._tokenizer.eos or self._compiled.is_stopped():
            self._check()
            self._state = _State.DONE

    def _check(self) -> None:
        if self._compiled.is_error():
            reason = self._compiled.get_error().partition("\n")[0]  # a dump of the parser follows
            raise EngineError(f"the constraint cannot be followed any further: {reason}")

    def _refuse_unless(self, allowed: bool, token: int) -> None:
        if not allowed:
            text = self._tokenizer.decode([token])
            raise EngineError(f"token {token} ({text!r}) is not allowed by the constraint at this place")
