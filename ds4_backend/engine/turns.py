"""Records of past assistant turns, found by call id or by what the client was given.

`Turns` keeps them in memory, `StoredTurns` on disk as well. It knows records and keys, no sequences.
"""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING

from ds4_backend.cache.keys import visible_key
from ds4_backend.cache.turns import Turn
from ds4_backend.chat.parse import Parser
from ds4_backend.chat.record import TurnRecord, Visible, split, visible
from ds4_backend.types import Message

if TYPE_CHECKING:
    from ds4_backend.cache.store import Store
    from ds4_backend.tokenizer import Tokenizer

TOKENS = 1 << 16
"""Token ids held in all: some hundreds of turns, about 3 MB. The disk cache's index holds more."""

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

    def add(self, record: TurnRecord, parent: bytes, *, private: bool = False) -> None:
        """Keep `record`, of a turn whose opener comes after the ids named by `parent` (`PrefixHash.key`).

        `private` ones must never leave memory, which is all there is here.
        """
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


class StoredTurns(Turns):
    """Records kept in memory and in the disk cache's index, so that another process, or this one after a restart, finds
    them. On disk a record is its ids alone; what the client was given is read from them again."""

    def __init__(self, store: Store, fingerprint: bytes, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._store, self._fingerprint, self._tokenizer = store, fingerprint, tokenizer

    def add(self, record: TurnRecord, parent: bytes, *, private: bool = False) -> None:
        """As `Turns.add`; a private one stays in memory."""
        super().add(record, parent)
        if not private:
            thinking = len(split(record.ids, record.thinking, self._tokenizer)[0])
            seen = visible_key(*record.visible)
            calls = tuple(call.id for call in record.calls)
            note = b"\x01" if record.thinking else b"\x00"
            self._store.put_turn(self._fingerprint, Turn(record.ids, thinking, parent, seen, calls, note))

    def find(self, message: Message, parent: bytes) -> TurnRecord | None:
        """As `Turns.find`, then on disk."""
        return super().find(message, parent) or self._stored(message, parent)

    def _stored(self, message: Message, parent: bytes) -> TurnRecord | None:
        for call in message.tool_calls[:1]:
            if turn := self._store.turn_by_call(self._fingerprint, call.id):
                return self._record(turn)
        turn = self._store.turn_by_content(self._fingerprint, parent, visible_key(*visible(message)))
        return None if turn is None else self._record(turn)

    def _record(self, turn: Turn) -> TurnRecord | None:
        if any(token >= self._tokenizer.vocab_size for token in turn.ids):
            return None  # stored under our name by someone who meant harm
        thinking = turn.note == b"\x01"
        parser = Parser(self._tokenizer, thinking)
        for token in turn.ids:
            parser.push(token)
        parser.finish()
        return TurnRecord(turn.ids, thinking, parser.content, parser.reasoning, parser.calls)
