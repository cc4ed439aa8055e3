"""Turn records: the very token ids an assistant turn was sampled with, found again by tool call or by content.

A client sends history back as text, and loses spelling, white space and reasoning on the way. The record gives the ids
back. It knows ids and hashes, no text; `note` is the engine's own.
"""

from __future__ import annotations

from dataclasses import dataclass

from ds4_backend.cache.index import Index
from ds4_backend.cache.keys import KEY_BYTES, call_key, pack_ids, unpack_ids
from ds4_backend.cache.records import checksum

MAX_IDS = 1 << 20
MAX_NOTE = 64 << 10
MAX_CALLS = 1024
MAX_TOTAL = 64 << 20
"""Bytes of all turn records; the longest unused ones go first."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One assistant turn as it was sampled.

    `thinking` counts the ids from the start that are reasoning. `prefix` names what came before (`PrefixHash.key`),
    `visible` what the client saw (`visible_key`), `calls` are the ids of its tool calls.
    """

    ids: tuple[int, ...]
    thinking: int
    prefix: bytes
    visible: bytes
    calls: tuple[str, ...] = ()
    note: bytes = b""

    @property
    def admissible(self) -> bool:
        """Whether it is within bounds, so that it can be stored."""
        sizes = len(self.ids) <= MAX_IDS and len(self.note) <= MAX_NOTE and len(self.calls) <= MAX_CALLS
        return sizes and 0 <= self.thinking <= len(self.ids) and len(self.prefix) == len(self.visible) == KEY_BYTES


def put(index: Index, fingerprint: bytes, turn: Turn, now: float) -> None:
    """Store a turn, in place of one with the same prefix and visible content; within a transaction."""
    same = "SELECT id FROM turns WHERE fingerprint = ? AND prefix = ? AND visible = ?"
    for (old,) in index.rows(same, (fingerprint, turn.prefix, turn.visible)):
        _forget(index, old)
    keys = [call_key(call) for call in turn.calls]
    ids, calls = pack_ids(turn.ids), b"".join(keys)
    nbytes = len(ids) + len(turn.note) + 2 * len(calls) + 4 * KEY_BYTES
    sql = """INSERT INTO turns (fingerprint, prefix, visible, ids, thinking, note, calls, sum, bytes, used)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id"""
    total = _sum(fingerprint, turn, calls)
    values = (fingerprint, turn.prefix, turn.visible, ids, turn.thinking, turn.note, calls, total, nbytes, now)
    number = index.rows(sql, values)[0][0]
    for key in keys:
        index.run("INSERT OR IGNORE INTO calls VALUES (?, ?)", (key, number))
    _keep_small(index)


def by_call(index: Index, fingerprint: bytes, call_id: str) -> Turn | None:
    """The newest turn that made this call; its `calls` are left empty."""
    key = call_key(call_id)
    found = _first(index, fingerprint, "JOIN calls c ON c.turn = t.id WHERE c.id = ? AND t.fingerprint = ?", key)
    return found[0] if found and key in _keys(found[1]) else None


def by_content(index: Index, fingerprint: bytes, prefix: bytes, visible: bytes) -> Turn | None:
    """The turn after `prefix` that looked like this to the client; its `calls` are left empty."""
    found = _first(index, fingerprint, "WHERE t.prefix = ? AND t.visible = ? AND t.fingerprint = ?", prefix, visible)
    return found[0] if found and (found[0].prefix, found[0].visible) == (prefix, visible) else None


def touch(index: Index, turn: Turn, now: float) -> None:
    """A turn was used; within a transaction."""
    index.run("UPDATE turns SET used = ? WHERE prefix = ? AND visible = ?", (now, turn.prefix, turn.visible))


def forget(index: Index, where: str, values: tuple[object, ...]) -> int:
    """Forget the turns that a condition picks; how many. Within a transaction."""
    found = index.rows(f"SELECT id FROM turns WHERE {where}", values)
    for (number,) in found:
        _forget(index, number)
    return len(found)


def _first(index: Index, fingerprint: bytes, where: str, *keys: bytes) -> tuple[Turn, bytes] | None:
    """The newest whole turn that a condition picks, and its calls' names; what the database has damaged is a miss."""
    columns = "t.prefix, t.visible, t.ids, t.note, t.calls, t.thinking, t.sum"
    for *values, thinking, total in index.rows(
        f"SELECT {columns} FROM turns t {where} ORDER BY t.id DESC LIMIT 1", (*keys, fingerprint)
    ):
        if not all(isinstance(value, bytes) for value in values) or not isinstance(thinking, int):
            continue
        prefix, visible, ids, note, calls = values
        turn = Turn(unpack_ids(ids[: len(ids) // 4 * 4]), thinking, prefix, visible, (), note)
        if turn.admissible and _sum(fingerprint, turn, calls) == total:
            return turn, calls
    return None


def _keys(calls: bytes) -> set[bytes]:
    return {calls[at : at + KEY_BYTES] for at in range(0, len(calls), KEY_BYTES)}


def _sum(fingerprint: bytes, turn: Turn, calls: bytes) -> bytes:
    sizes = pack_ids([turn.thinking, len(turn.note), len(calls)])
    return checksum(b"".join((fingerprint, turn.prefix, turn.visible, sizes, turn.note, calls, pack_ids(turn.ids))))


def _keep_small(index: Index) -> None:
    total = index.rows("SELECT COALESCE(SUM(bytes), 0) FROM turns")[0][0]
    while total > MAX_TOTAL:
        number, nbytes = index.rows("SELECT id, bytes FROM turns ORDER BY used LIMIT 1")[0]
        _forget(index, number)
        total -= nbytes


def _forget(index: Index, number: int) -> None:
    index.run("DELETE FROM turns WHERE id = ?", (number,))
    index.run("DELETE FROM calls WHERE turn = ?", (number,))
