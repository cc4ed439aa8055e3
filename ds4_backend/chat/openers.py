"""Where in the visible text a call block opens, in the right spelling or in one of those that models get wrong.

Knows text with MARK in it (chat/markup.py), not tokens. What becomes of a block, others decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ds4_backend.chat.candidate import Candidate
from ds4_backend.chat.held import Held
from ds4_backend.chat.markup import MARK, MISSPELT, opener
from ds4_backend.chat.signatures import Signatures
from ds4_backend.tokenizer import DSML


class Openers:
    """The search through one answer's held text. `sent` are the pieces of the visible text before it.

    Before `searched` no block opens; a caller who has decided against one moves it on.
    """

    def __init__(self, held: Held, signatures: Signatures, sent: Sequence[str]) -> None:
        self.searched = 0
        self._held = held
        self._signatures = signatures
        self._sent = sent

    def find(self, last: bool) -> Candidate | None:
        """The block that opens first. A DSML token that opens none becomes its characters.

        Where there is none, what follows `searched` may still become one, unless this is the `last` of the text.
        """
        held = self._held
        while self.searched < len(held.text):
            at = self.searched
            if held.text[at] in ("<", MARK):
                candidate, begun = self._at(at)
                if candidate or (begun and not last):
                    return candidate
                if held.text[at] == MARK:
                    held.replace(at, DSML)
                    self.searched += len(DSML) - 1
            self.searched += 1
        return None

    def _at(self, at: int) -> tuple[Candidate | None, bool]:
        """The block that opens at `at`, and whether more text could still make one."""
        text, begun = self._held.text, False
        for prefix in self._prefixes(at):
            tag = opener(prefix)
            if text.startswith(tag, at) and (prefix == MARK or not self._in_fence(at)):
                return Candidate(at, prefix, False, self._signatures), False
            begun = begun or tag.startswith(text[at : at + len(tag)])
        return None, begun

    def _prefixes(self, at: int) -> Iterable[str]:
        """The spellings that count at this place: a misspelt one only at the start of a line, for declared tools."""
        before = self._held.text[at - 1] if at else self._sent[-1][-1] if self._sent else ""
        if self._signatures.declared and before in ("", "\n"):
            return (MARK, *MISSPELT)
        return (MARK,) if self._signatures.any else ()

    def _in_fence(self, at: int) -> bool:
        """Whether a code fence is open there."""
        lines = ("".join(self._sent) + self._held.text[:at]).split("\n")
        return sum(line.lstrip(" ").startswith(("```", "~~~")) for line in lines) % 2 == 1
