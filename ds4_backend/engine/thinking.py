"""How long the thinking may be: after that it may close early, and then it must.

Between the two the model is given the chance to end its thought. It counts tokens and looks at one row of logits; it
knows no grammar and draws nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]

RANK = 3
"""In the window the thinking closes as soon as `</think>` is among this many likeliest tokens."""
WINDOW_TOKENS = 512
"""The window of a large budget, and what of a large answer is kept for the visible text."""
LEAST_WINDOW_TOKENS = 16
"""About one sentence, so that a small budget does not cut each thought in the middle."""


class ThinkingBudget:
    """The budget of one answer that starts inside `<think>`.

    After `max_thinking_tokens` the window opens; it is a quarter of that, within 16 and 512 tokens, so that a small
    budget is overrun by a little and not by 512. A budget of 0 has no window. The thinking also closes when only
    `reserve` of the answer's `max_tokens` are left: 512, or a quarter of a small answer, so that some of it can be
    read whatever its size.

    `opens_at` and `closes_at` count the thinking's tokens: from the first on `</think>` is taken early, at the second
    it is forced.
    """

    def __init__(self, max_thinking_tokens: int, think_end_id: int, max_tokens: int) -> None:
        self.think_end_id = think_end_id
        window = min(WINDOW_TOKENS, max(LEAST_WINDOW_TOKENS, max_thinking_tokens // 4)) if max_thinking_tokens else 0
        self.reserve = min(WINDOW_TOKENS, max_tokens // 4)
        self.closes_at = min(max_thinking_tokens + window, max_tokens - self.reserve)
        self.opens_at = min(max_thinking_tokens, self.closes_at)
        self.spent = 0
        self._open = True

    def closes(self, logits: Logits) -> bool:
        """Whether the next token is to be `</think>`, whatever would be drawn from `logits`, float32 [V]."""
        if not self._open or self.spent < self.opens_at:
            return False
        return self.spent >= self.closes_at or int((logits > logits[self.think_end_id]).sum()) < RANK

    def accept(self, token: int) -> None:
        """The answer goes on with `token`."""
        if self._open and token == self.think_end_id:
            self._open = False
        elif self._open:
            self.spent += 1
