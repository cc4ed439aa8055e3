"""Conversations as page tables over the shared state, and their snapshots. It knows no formulas and no weights.

A conversation owns one slot of rings and a list of pages. Full pages are never written again, so a fork shares them and
copies only the slot and the open page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ds4_backend.errors import EngineError
from ds4_backend.gguf.geometry import PAGE_TOKENS
from ds4_backend.ops.base import Packed, Rows, Span, State


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that continues a conversation elsewhere: its length in tokens, full pages and tail as host arrays (see
    `ops.base.State`); pages also as they were stored."""

    length: int
    pages: Rows | Packed
    tail: Rows


class Arena:
    """Hands out pages and slots of one state; pages are counted because forks share them."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._users: Counter[int] = Counter()
        self._free_pages: set[int] = set()
        self._free_slots: list[int] = []
        self._pages = self._slots = 0

    def take_page(self, after: int | None) -> int:
        """A free page; the one right after `after` if that is free, so that a conversation's rows stay one run.

        Where it is not, the longest free run is gone on with, or the pools grow: as long as fewer pages are free than
        in use, so that they never hold more than twice what was ever needed at once.
        """
        if after is not None and after + 1 in self._free_pages:
            page = after + 1
        elif self._free_pages and (after is None or len(self._free_pages) > len(self._users)):
            page = longest_run(self._free_pages)
        else:
            page = self._pages
            self._pages += 1
            self.state.reserve(self._pages, self._slots)
        self._free_pages.discard(page)
        self._users[page] = 1
        return page

    def share_page(self, page: int) -> int:
        self._users[page] += 1
        return page

    def drop_page(self, page: int) -> None:
        self._users[page] -= 1
        if not self._users[page]:
            del self._users[page]
            self._free_pages.add(page)

    def take_slot(self) -> int:
        if self._free_slots:
            return self._free_slots.pop()
        self._slots += 1
        self.state.reserve(self._pages, self._slots)
        return self._slots - 1

    def drop_slot(self, slot: int) -> None:
        self._free_slots.append(slot)

    def load(self, pages: tuple[int, ...], rows: Rows | Packed) -> None:
        """Fill pages from the host."""
        if isinstance(rows, Packed):
            self.state.import_packed(pages, rows)
        else:
            self.state.import_pages(pages, rows)

    @property
    def pages_free(self) -> int:
        return len(self._free_pages)

    @property
    def pages_in_use(self) -> int:
        return len(self._users)

    @property
    def slots_in_use(self) -> int:
        return self._slots - len(self._free_slots)


def longest_run(pages: set[int]) -> int:
    """The first of the most successive numbers in `pages`; of equal runs the lowest."""
    best = (0, 0)  # length, minus the first
    for page in pages:
        if page - 1 not in pages:
            end = page
            while end in pages:
                end += 1
            best = max(best, (end - page, -page))
    return -best[1]


class Sequence:
    """One conversation's state: `length` tokens have been through the network."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._slot: int | None = arena.take_slot()
        self._pages: list[int] = []
        self.length = 0

    def span(self, count: int) -> Span:
        """The next `count` tokens' place, with pages taken for them."""
        while len(self._pages) * PAGE_TOKENS < self.length + count:
            self._pages.append(self._arena.take_page(self._pages[-1] if self._pages else None))
        return Span(self._alive(), tuple(self._pages), self.length, count)

    def fork(self) -> Sequence:
        """A second conversation with the same past; full pages are shared, the rest is copied."""
        slot, full = self._alive(), self.length // PAGE_TOKENS
        twin = Sequence(self._arena)
        self._arena.state.copy_slot(slot, twin._alive())
        twin._pages = [self._arena.share_page(p) for p in self._pages[:full]]
        if self.length % PAGE_TOKENS:
            page = self._arena.take_page(twin._pages[-1] if twin._pages else None)
            self._arena.state.copy_page(self._pages[full], page)
            twin._pages.append(page)
        twin.length = self.length
        return twin

    def export(self) -> Snapshot:
        """Everything needed to continue elsewhere, as host arrays."""
        return Snapshot(self.length, self.export_pages(range(self.length // PAGE_TOKENS)), self.export_tail())

    def export_pages(self, numbers: Iterable[int]) -> Rows:
        """Some of its full pages, counted from 0 (see `State.export_pages`)."""
        return self._arena.state.export_pages([self._pages[number] for number in numbers])

    def export_tail(self) -> Rows:
        """What a resume at this very length needs beside the full pages (see `State.export_tail`)."""
        return self._arena.state.export_tail(self._alive(), self._open_page(), self.length)

    def load(self, snapshot: Snapshot) -> None:
        """Take over a snapshot; only an empty sequence can."""
        if self.length or self._pages:
            raise EngineError(f"a snapshot cannot be loaded over a conversation of {self.length} tokens")
        span = self.span(snapshot.length)
        full = snapshot.length // PAGE_TOKENS
        if full:
            self._arena.load(span.pages[:full], snapshot.pages)
        self.length = snapshot.length
        self._arena.state.import_tail(span.slot, self._open_page(), self.length, snapshot.tail)

    def release(self) -> None:
        """Give slot and pages back; the sequence cannot be used again. Releasing twice is harmless."""
        if self._slot is None:
            return
        self._arena.drop_slot(self._slot)
        for page in self._pages:
            self._arena.drop_page(page)
        self._slot, self._pages = None, []

    @property
    def released(self) -> bool:
        return self._slot is None

    def _alive(self) -> int:
        if self._slot is None:
            raise EngineError("this conversation's state was released")
        return self._slot

    def _open_page(self) -> int | None:
        full = self.length // PAGE_TOKENS
        return self._pages[full] if self.length % PAGE_TOKENS else None
