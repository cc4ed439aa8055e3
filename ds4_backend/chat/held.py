"""Text of an answer that is not sent yet, and the log-probabilities of the tokens that end in it.

Knows nothing of why text is held.
"""

from __future__ import annotations

from collections import deque

from ds4_backend.types import TokenLogprob


class Held:
    """Text in the order it came; what is taken from its front takes the log-probabilities along."""

    def __init__(self) -> None:
        self.text = ""
        self._ends: deque[tuple[int, TokenLogprob]] = deque()  # position in `text` after a token, ascending

    def add(self, piece: str, logprob: TokenLogprob | None = None, unfinished: bool = False) -> None:
        """Append a token's text. `unfinished` says that the token ends inside the character after it."""
        self.text += piece
        if logprob is not None:
            self._ends.append((len(self.text) + unfinished, logprob))

    def replace(self, at: int, text: str) -> None:
        """Put `text` in the place of the one character at `at`."""
        self.text = self.text[:at] + text + self.text[at + 1 :]
        more = len(text) - 1
        self._ends = deque((end + more if end > at else end, logprob) for end, logprob in self._ends)

    def take(self, count: int) -> tuple[str, tuple[TokenLogprob, ...]]:
        """The first `count` characters, and what belongs to the tokens that end in them."""
        text, self.text = self.text[:count], self.text[count:]
        logprobs = []
        while self._ends and self._ends[0][0] <= count:
            logprobs.append(self._ends.popleft()[1])
        self._ends = deque((end - count, logprob) for end, logprob in self._ends)
        return text, tuple(logprobs)
