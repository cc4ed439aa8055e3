"""Keeps one index open: makes it where there is none, makes it anew where it is damaged, follows when others did so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ds4_backend.cache import schema
from ds4_backend.cache.files import Files
from ds4_backend.cache.index import Index, open_index
from ds4_backend.cache.rebuild import rebuild

T = TypeVar("T")


class Handle:
    """The index in force, for one thread at a time. `rebuilt` counts how often it had to be made anew."""

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder, self._files = folder, files
        self._index: Index | None = None
        self._lock = threading.RLock()
        self.rebuilt = 0

    def use(self, work: Callable[[Index], T]) -> T:
        """Run `work` on the index. Where it meets damage, the index is made anew and `work` runs a second time.

        Raises what `work` raises, and sqlite3.Error or OSError where the index cannot be opened or made.
        """
        with self._lock:
            try:
                return work(self._open())
            except Exception as error:
                if not schema.is_damage(error):
                    raise
            self._remake()
            return work(self._open())

    def close(self) -> None:
        with self._lock:
            if self._index:
                self._index.close()
            self._index = None

    def _open(self) -> Index:
        if self._index and not self._index.current:
            self.close()
        if self._index is None:
            try:
                self._index = open_index(self._folder, self._files)
            except FileNotFoundError:
                self._index = rebuild(self._folder, self._files, None)
        return self._index

    def _remake(self) -> None:
        found = schema.generations(self._folder)
        broken = self._index.path if self._index else found[-1] if found else None
        self.close()
        self._index = rebuild(self._folder, self._files, broken)
        self.rebuilt += 1
