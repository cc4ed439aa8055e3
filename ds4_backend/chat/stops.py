"""The stop strings of a request, looked for in text that is still arriving."""

from __future__ import annotations

from collections.abc import Sequence

from ds4_backend.chat.markup import overlap
from ds4_backend.errors import RequestError


class Stops:
    """Strings that end the visible text. Raises RequestError for an empty one."""

    def __init__(self, strings: Sequence[str]) -> None:
        if "" in strings:
            raise RequestError("a stop string is empty: leave it out")
        self._strings = tuple(strings)

    def first(self, text: str, end: int) -> tuple[int, str] | None:
        """The string that ends first within the first `end` characters, the longest if several do, and its place."""
        found = [(at + len(stop), at, stop) for stop in self._strings if (at := text.find(stop, 0, end)) >= 0]
        return min(found)[1:] if found else None

    def certain(self, text: str, end: int) -> int:
        """How many of the first `end` characters cannot be part of any of them, whatever comes next."""
        return min([end, *(self._start(text, stop) for stop in self._strings)])

    def _start(self, text: str, stop: str) -> int:
        """Where `stop` is, or may be."""
        at = text.find(stop)
        return at if at >= 0 else len(text) - overlap(text, stop)
