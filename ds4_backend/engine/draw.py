"""How the next token of one answer is chosen: what the grammar forces, what the thinking's budget forces, else a draw.

It sees one row of logits at a time. It knows no model, no parser and no events; the caller runs the network over the
tokens it gets, and stops at the end-of-sentence token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ds4_backend.engine.bias import Bias
from ds4_backend.engine.constraint import constraint_of, may_call
from ds4_backend.engine.defaults import REFERENCE, request_fault
from ds4_backend.engine.grammar.loose import held_as_far_as_possible
from ds4_backend.engine.logprobs import certain, logprob_of
from ds4_backend.engine.sampler import Sampler
from ds4_backend.engine.thinking import ThinkingBudget
from ds4_backend.errors import EngineError, RequestError
from ds4_backend.tokenizer import DSML, THINK_END
from ds4_backend.types import Request, Sampling, TokenLogprob

if TYPE_CHECKING:
    from ds4_backend.engine.grammar import Matcher
    from ds4_backend.tokenizer import Tokenizer

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Draw:
    """The next tokens of the answer: a drawn one, then those that must follow it; or only such.

    All of them can be fed to the model in one pass. Only the first can be the end-of-sentence token, and then it is
    alone. `logprobs` has one entry per token where they are asked for. The first one's is the model's; the others were
    never in question, and have 0.0 and no alternatives.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


class Drawer:
    """Chooses the tokens of one answer: `next` once per pass of the model, until it gives the end-of-sentence token,
    or `done`, or the answer has `budget` tokens.

    A token is drawn from the logits, with `bias` added, that `matcher` allows; `loose` names the tools whose arguments
    it leaves free. `thinking` closes the thinking in time.
    `logprobs` is the number of alternatives to list with each token; None lists nothing.

    For the answer's metadata: `settings` are the effective sampling options, `thinking.opens_at` and
    `thinking.closes_at` the effective budget, and `thinking_cut` says whether it was the budget that closed the
    thinking.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        sampler: Sampler,
        *,
        matcher: Matcher | None = None,
        loose: tuple[str, ...] = (),
        thinking: ThinkingBudget | None = None,
        bias: Bias | None = None,
        logprobs: int | None = None,
        budget: int,
    ) -> None:
        self.thinking, self.settings, self.thinking_cut = thinking, sampler.settings, False
        self._tokenizer, self._sampler, self._matcher = tokenizer, sampler, matcher
        self._bias = bias or Bias(tokenizer.vocab_size, {})
        self.loose = loose
        self._logprobs = logprobs
        self._left = budget

    @property
    def done(self) -> bool:
        """Whether the grammar allows nothing but the end-of-sentence token: the answer is complete."""
        return self._matcher is not None and self._matcher.done

    def next(self, logits: Logits) -> Draw:
        """The next tokens, from float32 [V] after the last one; at least one, and never more than the budget has left.

        Raises EngineError where the logits are unusable, or the grammar has become too complex to go on.
        """
        if len(logits) != self._tokenizer.vocab_size:
            raise EngineError(f"{len(logits)} logits do not fit a vocabulary of {self._tokenizer.vocab_size} tokens")
        tokens = self._forced(self._left)
        if not tokens:
            tokens = [self._drawn(logits)]
            self._accept(tokens[0])
            tokens += self._forced(self._left - 1)
        self._left -= len(tokens)
        return Draw(tuple(tokens), self._logprobs_of(tokens, logits))

    def _drawn(self, logits: Logits) -> int:
        row = self._bias.added_to(logits)
        if self.thinking and self.thinking.closes(row):
            self.thinking_cut = True
            return self.thinking.think_end_id
        return self._sampler.pick(row, self._matcher.mask() if self._matcher else None)

    def _forced(self, most: int) -> list[int]:
        """The tokens that the grammar leaves no choice about, `most` of them at most; they are accepted."""
        tokens = list(self._matcher.forced()[: max(most, 0)]) if self._matcher else []
        for token in tokens:
            self._accept(token)
        return tokens

    def _accept(self, token: int) -> None:
        if self._matcher:
            self._matcher.accept(token)
        if self.thinking:
            self.thinking.accept(token)
        self._bias.count(token)

    def _logprobs_of(self, tokens: list[int], logits: Logits) -> tuple[TokenLogprob, ...]:
        if self._logprobs is None:
            return ()
        first = logprob_of(tokens[0], logits, self._logprobs, self._tokenizer)
        return (first, *(certain(token, self._tokenizer) for token in tokens[1:]))


def drawer_for(
    request: Request, thinking: bool, tokenizer: Tokenizer, defaults: Sampling = REFERENCE, *, budget: int
) -> Drawer:
    """The drawer of an answer to `request`. `thinking` says whether it starts inside `<think>` (`Rendered.thinking`);
    it may have `budget` tokens.

    The first constraint for a tokenizer prepares its vocabulary, which takes a second or two for a real one.

    Raises RequestError for an option out of range, a choice among tools that is not there, or an answer's form that is
    impossible or cannot be held.
    """
    if said := request_fault(request, tokenizer.vocab_size):
        raise RequestError(said)
    sampler = Sampler(request.sampling, defaults)
    bias = Bias(
        tokenizer.vocab_size,
        request.sampling.logit_bias,
        banned=() if may_call(request) else (tokenizer.token_id(DSML),),
        presence=sampler.settings.presence_penalty,
        frequency=sampler.settings.frequency_penalty,
    )
    matcher, loose = _matcher(request, thinking, tokenizer)
    return Drawer(
        tokenizer,
        sampler,
        matcher=matcher,
        loose=loose,
        thinking=_thinking_budget(request, thinking, tokenizer, budget),
        bias=bias,
        logprobs=request.logprobs,
        budget=budget,
    )


def _matcher(request: Request, thinking: bool, tokenizer: Tokenizer) -> tuple[Matcher | None, tuple[str, ...]]:
    """Where the answer's form is held: a matcher that has read what the caller began the answer with, and the tools
    whose arguments it leaves free."""
    constraint = constraint_of(request)
    if constraint is None:
        return None, ()
    grammar, loose = held_as_far_as_possible(constraint, tokenizer, thinking)
    matcher = grammar.matcher()
    begun = request.messages[-1].content if request.messages and request.messages[-1].prefix else ""
    try:
        for token in tokenizer.encode(begun):
            matcher.accept(token)
    except EngineError as error:
        raise RequestError(
            f"the answer cannot go on from {begun[:60]!r}: the form that is asked for does not begin like that"
        ) from error
    return matcher, loose


def _thinking_budget(request: Request, thinking: bool, tokenizer: Tokenizer, budget: int) -> ThinkingBudget | None:
    if not thinking or request.max_thinking_tokens is None:
        return None
    return ThinkingBudget(request.max_thinking_tokens, tokenizer.token_id(THINK_END), budget)
