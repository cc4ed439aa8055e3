"""Records of past assistant turns kept in memory, found by call id or by what the client was given.

It knows records and keys, no tokens, no sequences and no disk.
"""

from __future__ import annotations

import itertools
import threading

from ds4_backend.chat.record import TurnRecord, Visible, visible
from ds4_backend.types import Message

TOKENS = 1 << 18
"""Token ids held in all: some hundreds of turns, about 10 MB."""

Sight = tuple[bytes, Visible]
"""The key of the ids before a turn, and what was visible of it."""


class Turns:
    """The records used last, as many as have `bound` tokens in all. Safe between threads."""

    def __init__(self, bound: int = TOKENS) -> None:
        self._bound = bound
        self._lock = threading.Lock()
        self._serials = itertools.count()
        self._records: dict[int, tuple[Sight, TurnRecord]] = {}  # by serial, the least recently used first
        self._by_sight: dict[Sight, list[int]] = {}  # the oldest first
        self._by_call: dict[str, int] = {}
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: TurnRecord, parent: bytes) -> None:
        """Keep `record`, of a turn whose opener comes after the ids named by `parent` (`replay.prefix_key`)."""
        sight = (parent, record.visible)
        with self._lock:
            for serial in [old for old in self._by_sight.get(sight, ()) if self._records[old][1] == record]:
                self._drop(serial)
            serial = next(self._serials)
            self._records[serial] = (sight, record)
            self._by_sight.setdefault(sight, []).append(serial)
            self._by_call.update((call.id, serial) for call in record.calls)
            self._tokens += len(record.ids)
            while self._tokens > self._bound:
                self._drop(next(iter(self._records)))

    def find(self, message: Message, parent: bytes) -> TurnRecord | None:
        """The record of the turn that `message` shows: by call id, else by `parent` and what is visible.

        Of several, the latest; one whose reasoning is the message's comes before others.
        """
        seen = visible(message)
        with self._lock:
            named = [self._by_call[call.id] for call in message.tool_calls[:1] if call.id in self._by_call]
            fits = [serial for serial in named if self._records[serial][0][1] == seen]
            fits += reversed(self._by_sight.get((parent, seen), []))
            if not fits:
                return None
            best = next((serial for serial in fits if self._reasons_as(message, serial)), fits[0])
            self._records[best] = self._records.pop(best)
            return self._records[best][1]

    def _reasons_as(self, message: Message, serial: int) -> bool:
        return not message.reasoning or self._records[serial][1].reasoning == message.reasoning

    def _drop(self, serial: int) -> None:
        sight, record = self._records.pop(serial)
        self._tokens -= len(record.ids)
        self._by_sight[sight].remove(serial)
        if not self._by_sight[sight]:
            del self._by_sight[sight]
        for call in record.calls:
            if self._by_call.get(call.id) == serial:
                del self._by_call[call.id]
