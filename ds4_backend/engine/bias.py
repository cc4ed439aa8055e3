"""What is added to a row of logits before anything is drawn from it: biases, bans and penalties.

It knows no request and no grammar.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]


class Bias:
    """The sum for one answer, kept up to date token by token.

    `biases` are added to the logits of their tokens; the `banned` ones cannot be drawn at all. A token that the answer
    holds n times loses `presence` + n * `frequency` (OpenAI's formula).
    """

    def __init__(
        self,
        vocab_size: int,
        biases: Mapping[int, float],
        *,
        banned: Iterable[int] = (),
        presence: float = 0.0,
        frequency: float = 0.0,
    ) -> None:
        self._presence, self._frequency = presence, frequency
        self._counted: set[int] = set()
        banned = list(banned)
        self._sum: Logits | None = None  # [V]; None while there is nothing to add
        if biases or banned or presence or frequency:
            self._sum = np.zeros(vocab_size, dtype=np.float32)
            self._row = np.empty_like(self._sum)
            self._sum[list(biases)] = list(biases.values())
            self._sum[banned] = -np.inf

    def added_to(self, logits: Logits) -> Logits:
        """`logits` + the sum, float32 [V]; `logits` itself where there is nothing to add. Valid until the next call."""
        return logits if self._sum is None else np.add(logits, self._sum, out=self._row)

    def count(self, token: int) -> None:
        """The answer goes on with `token`."""
        if self._sum is None or not (self._presence or self._frequency):
            return
        if token not in self._counted:
            self._counted.add(token)
            self._sum[token] -= self._presence
        self._sum[token] -= self._frequency
