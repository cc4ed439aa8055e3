"""Names of cached state: a hash chain over token ids. It knows ids and hashes, no files and no model.

    root      = H("root",  fingerprint)
    block i   = H("block", id of block i-1 or root, its 128 token ids)
    tail      = H("tail",  id of the last full block or root, the 0 to 127 token ids after it)

H is BLAKE2b with 32 bytes of output and the word as personalisation; token ids are little-endian u32. The layout is
fixed, so every process and every machine finds the same names.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b

BLOCK_TOKENS = 128
"""Tokens in a block: the least common multiple of the compression ratios 4 and 128."""
KEY_BYTES = 32
ID_BYTES = 4
"""Bytes of one token id."""


def pack_ids(ids: Sequence[int]) -> bytes:
    """Token ids as little-endian u32. Raises struct.error for what is no u32."""
    return struct.pack(f"<{len(ids)}I", *ids)


def unpack_ids(data: bytes) -> tuple[int, ...]:
    """The reverse of `pack_ids`."""
    return struct.unpack(f"<{len(data) // ID_BYTES}I", data)


def _hash(word: bytes, *parts: bytes) -> bytes:
    state = blake2b(digest_size=KEY_BYTES, person=word)
    for part in parts:
        state.update(part)
    return state.digest()


def root_key(fingerprint: bytes) -> bytes:
    """Where the chains of one model begin."""
    return _hash(b"ds4kv root", fingerprint)


def block_key(parent: bytes, tokens: bytes) -> bytes:
    """Name of the block that follows `parent` and covers `tokens`, 512 packed bytes."""
    return _hash(b"ds4kv block", parent, tokens)


def tail_key(chain: bytes, rest: bytes) -> bytes:
    """Name of the tail after block `chain` (or a root) and the packed ids `rest`."""
    return _hash(b"ds4kv tail", chain, rest)


def start_key(tokens: bytes) -> bytes:
    """Name of a first block's tokens alone, the same for every model: it tells a changed model from a new text."""
    return _hash(b"ds4kv start", tokens)


def call_key(call_id: str) -> bytes:
    """Name of a tool call. Ids come from clients and may be of any length."""
    return _hash(b"ds4kv call", call_id.encode("utf-8", "surrogatepass"))


def visible_key(content: str, calls: Iterable[tuple[str, str]] = ()) -> bytes:
    """Name of what a client saw of an assistant turn: its content and its calls, (name, arguments as JSON text).

    Arguments are compared as JSON values; spelling and order of keys do not matter. Text that is no JSON counts as it
    is.
    """
    seen = [content, *([name, _canonical(arguments)] for name, arguments in calls)]
    return _hash(b"ds4kv visible", json.dumps(seen, ensure_ascii=True, separators=(",", ":")).encode())


def _canonical(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return arguments


class PrefixHash:
    """The name of a growing row of token ids, for turn records: `extend`, then `key` as often as wanted."""

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self._state = blake2b(digest_size=KEY_BYTES, person=b"ds4kv prefix")
        self.extend(ids)

    def extend(self, ids: Sequence[int]) -> None:
        """Append ids."""
        self._state.update(pack_ids(ids))

    def key(self) -> bytes:
        """The name of all ids so far, 32 bytes."""
        return self._state.copy().digest()


class Chain:
    """The token ids of one conversation under one model, and the names of all its full blocks.

    `keys[i]` is the name after i full blocks; `keys[0]` is the root. Extending costs the new ids only.
    """

    def __init__(self, fingerprint: bytes, ids: Sequence[int] = ()) -> None:
        self.fingerprint = fingerprint
        self.keys = [root_key(fingerprint)]
        self._packed = bytearray()
        self.extend(ids)

    @property
    def length(self) -> int:
        """Token ids held."""
        return len(self._packed) // ID_BYTES

    def extend(self, ids: Sequence[int]) -> None:
        """Append ids and name the blocks they fill."""
        self._packed += pack_ids(ids)
        while len(self.keys) * BLOCK_TOKENS <= self.length:
            self.keys.append(block_key(self.keys[-1], self.block_tokens(len(self.keys) - 1)))

    def block_tokens(self, index: int) -> bytes:
        """Packed ids of full block `index`, counted from 0."""
        return self.packed(index * BLOCK_TOKENS, (index + 1) * BLOCK_TOKENS)

    def packed(self, start: int, stop: int) -> bytes:
        """Packed ids of tokens `start` to `stop`, not included."""
        return bytes(self._packed[start * ID_BYTES : stop * ID_BYTES])

    def tail(self, length: int) -> tuple[bytes, bytes]:
        """What names a tail after `length` tokens: the last full block's name and the packed ids after it."""
        full = length // BLOCK_TOKENS
        return self.keys[full], self.packed(full * BLOCK_TOKENS, length)
