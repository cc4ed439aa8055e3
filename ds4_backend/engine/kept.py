"""Finished sequences kept in memory, so that a request which goes on from one of them need not read it again.

A sequence shares its pages with its forks; keeping one costs its own tail and the pages nobody else holds. It knows
token ids and sequences, no text and no disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ds4_backend.model import Sequence

KEPT = 16
"""Sequences kept: two for each turn of a conversation (before and after the answer); the last turns of eight."""
PASSED = 2
"""What so many others go on from is an earlier turn: whoever goes on takes one of those."""


@dataclass(eq=False, slots=True)
class Kept:
    """A sequence, the ids of every token it has read, how many kept ones begin with these, and how often it was
    resumed itself."""

    ids: tuple[int, ...]
    sequence: Sequence
    passed: int = 0
    resumed: int = 0

    @property
    def earlier(self) -> bool:
        """Whether it is an earlier turn of one conversation, and no beginning that several share."""
        return self.passed >= PASSED and self.resumed < 2


class KeptSequences:
    """At most `bound` sequences. Those of earlier turns are released first, then the least recently used one, so that
    the many turns of one conversation do not push out the last turn of another. Not safe between threads."""

    def __init__(self, bound: int = KEPT) -> None:
        self._bound = bound
        self._entries: list[Kept] = []  # least recently used first

    def __len__(self) -> int:
        return len(self._entries)

    def tokens(self) -> tuple[int, ...]:
        """Length of each kept sequence, the least recently used first."""
        return tuple(len(entry.ids) for entry in self._entries)

    def add(self, ids: tuple[int, ...], sequence: Sequence) -> None:
        """Take over `sequence`, which has read `ids`. An entry for the same ids is replaced."""
        for entry in [entry for entry in self._entries if entry.ids == ids]:
            self._drop(entry)
        for entry in self._entries:
            entry.passed += _starts(ids, entry.ids)
        self._entries.append(Kept(ids, sequence))
        while len(self._entries) > self._bound:
            self.drop_oldest()

    def resume(self, prompt: tuple[int, ...]) -> Sequence | None:
        """A fork of the longest kept sequence that `prompt` goes on from by at least one token."""
        fits = [entry for entry in self._entries if len(entry.ids) < len(prompt) and _starts(prompt, entry.ids)]
        if not fits:
            return None
        best = max(fits, key=lambda entry: len(entry.ids))
        self._entries.remove(best)
        self._entries.append(best)
        best.resumed += 1
        return best.sequence.fork()

    def clear(self) -> None:
        """Release everything."""
        while self._entries:
            self.drop_oldest()

    def drop_oldest(self) -> None:
        """Release the least recently used one of an earlier turn, or of all; there must be one."""
        self._drop(next((entry for entry in self._entries if entry.earlier), self._entries[0]))

    def _drop(self, entry: Kept) -> None:
        self._entries.remove(entry)
        entry.sequence.release()


def _starts(prompt: tuple[int, ...], ids: tuple[int, ...]) -> bool:
    return prompt[: len(ids)] == ids
