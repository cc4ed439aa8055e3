"""How many prompt tokens are read at once, so that nobody waits long. It knows speeds, no models.

Alone, a prompt is read in the chunks that suit the model best. While anyone else waits or writes, a chunk lasts at
most about a second.
"""

from __future__ import annotations

from ds4_backend.gguf.geometry import PAGE_TOKENS

CROWDED_SECONDS = 1.0
_NEW = 0.3
"""Weight of the latest measurement in the running mean."""


class Pace:
    """Measures prefill and decode, and cuts chunks. `crowded` says whether anyone else waits or writes."""

    def __init__(self, prefill_tokens: int) -> None:
        self._best = prefill_tokens
        self._tokens = self._seconds = 0.0  # prefill, the last chunks' most of all
        self.crowded = False
        self.decode_per_second = 0.0

    @property
    def prefill_per_second(self) -> float:
        """Prompt tokens per second of the last chunks; 0 before the first."""
        return self._tokens / self._seconds if self._seconds else 0.0

    def chunk(self) -> int:
        """Tokens of the next chunk: the model's best, or fewer, in whole pages; one while nothing was measured."""
        if not self.crowded:
            return self._best
        pages = int(self.prefill_per_second * CROWDED_SECONDS) // PAGE_TOKENS
        return min(self._best, max(1, pages) * PAGE_TOKENS)

    def read(self, tokens: int, seconds: float) -> None:
        """A chunk of `tokens` took so long. What was measured before counts half after each chunk of the best size, and
        all but as much after a prompt's last token, which is read alone."""
        kept = 0.5 ** (tokens / self._best)
        self._tokens = kept * self._tokens + tokens
        self._seconds = kept * self._seconds + seconds

    def wrote(self, tokens: int, seconds: float) -> None:
        """One step gave `tokens` conversations a token each, in so long."""
        self.decode_per_second = _mean(self.decode_per_second, tokens, seconds)


def chunk_end(position: int, end: int, chunk: int, stop: int | None = None) -> int:
    """Where the chunk that begins at `position` ends: at a multiple of `chunk`, one token before the end, or the end;
    at `stop` if that comes first.

    The grid starts at position 0, so that a resumed prompt is cut where a fresh one is.
    """
    grid = (position // chunk + 1) * chunk
    return min(grid, end - 1, stop or end) if position < end - 1 else end


def _mean(before: float, tokens: int, seconds: float) -> float:
    now = tokens / seconds if seconds > 0 else before
    return now if not before else (1 - _NEW) * before + _NEW * now
