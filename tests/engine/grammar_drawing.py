"""Answers drawn from random logits by the engine's own `Drawer`: a model of random weights, at next to no cost."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from grammar_sampling import CLOSERS, tiny_tokenizer

from ds4_backend.engine.draw import drawer_for
from ds4_backend.errors import RequestError
from ds4_backend.tokenizer import DSML
from ds4_backend.types import Message, Request, Sampling

BUDGET = 3000
CLOSING = 8.5
"""Added to the logits of what closes a string, an object, an array or an argument. A quote is one token in 4,096: even
odds would fill a string for hours. Together the other tokens of a standard normal row weigh e^8.8."""
AWAITED = ("@",)
"""What an address cannot end without: as rare, and as likely made."""


@functools.cache
def _rows() -> np.ndarray:
    """float32 [64, V]"""
    shape = (64, tiny_tokenizer().vocab_size)
    return np.random.default_rng(20261122).normal(size=shape).astype(np.float32)


def drawn_answer(seed: int, **asked: Any) -> list[int] | None:
    """The tokens of a random answer to a request, without the end token; None where the budget cut it off.

    Raises RequestError as `drawer_for` does.
    """
    tokenizer, rng = tiny_tokenizer(), np.random.default_rng(seed)
    bias = {tokenizer.token_id(text): CLOSING for text in (*CLOSERS, *AWAITED, DSML)} | {tokenizer.eos: CLOSING}
    request = Request((Message("user", "?"),), sampling=Sampling(1.0, seed=seed, logit_bias=bias), **asked)
    drawer = drawer_for(request, False, tokenizer, budget=BUDGET)
    answer: list[int] = []
    while not drawer.done and len(answer) < BUDGET:
        tokens = drawer.next(_rows()[rng.integers(len(_rows()))]).tokens
        if tokens == (tokenizer.eos,):
            return answer
        answer += tokens
    return answer if drawer.done else None


def tally(count: int, valid: Callable[[int], bool]) -> Counter[str]:
    """How often `valid` of 0 to `count` - 1 is true, false (cut off), or refuses; printed as a table.

    Fails where more than 5 % are refused, or more than 1 % cut off.
    """
    outcomes = Counter[str]()
    for seed in range(count):
        try:
            outcomes["valid" if valid(seed) else "cut off"] += 1
        except RequestError as refusal:
            outcomes[f"refused: {refusal}"] += 1
    print(*(f"{number:5} {said}" for said, number in outcomes.most_common()), sep="\n")
    refused = count - outcomes["valid"] - outcomes["cut off"]
    assert refused <= 0.05 * count and outcomes["cut off"] <= 0.01 * count, outcomes
    return outcomes
