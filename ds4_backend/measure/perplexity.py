"""How surprised a model is by a text: the mean negative log-likelihood of its tokens. It knows no files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ds4_backend.measure.vectors import log_softmax
from ds4_backend.model import Model
from ds4_backend.progress import Report, silent


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Tokens scored, and their mean negative log-likelihood in nats."""

    tokens: int
    nll: float

    @property
    def perplexity(self) -> float:
        """exp(nll): the number of equally likely tokens that would surprise as much."""
        return math.exp(self.nll)


def perplexity(model: Model, ids: Sequence[int], bos: int, context: int, report: Report = silent) -> Perplexity:
    """Score every token of `ids` after what precedes it in its window of `context` tokens; each window begins afresh,
    with `bos`."""
    total, done = 0.0, 0
    for start in range(0, len(ids), context - 1):
        window = [bos, *ids[start : start + context - 1]]
        total += _window(model, window)
        done += len(window) - 1
        report(done, len(ids))
    return Perplexity(done, total / done)


def _window(model: Model, window: Sequence[int]) -> float:
    """The negative log-likelihood of all tokens but the first."""
    sequence, total = model.new_sequence(), 0.0
    try:
        for at in range(0, len(window) - 1, model.prefill_tokens):
            fed = window[at : min(at + model.prefill_tokens, len(window) - 1)]
            logprobs = log_softmax(model.forward([(sequence, fed)], every=True))
            following = np.asarray(window[at + 1 : at + 1 + len(fed)])
            total -= float(logprobs[np.arange(len(fed)), following].sum())
    finally:
        sequence.release()
    return total
