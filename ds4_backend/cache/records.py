"""One record of a segment file: a header, the token ids it covers, a checksum of both, then the payload.

Little-endian: magic 8s, version u8, kind u8, use u16, tokens u32, payload length u64, position u64, fingerprint 32s,
parent 32s, created u64 (Unix seconds), xxh3-128 of the payload; the token ids, u32 each; xxh3-128 of all before it.
The record's own name is not stored: it follows from parent and ids. The magic cannot occur in token ids, whose top byte
is 0. It knows bytes, no files and no index.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import xxhash

from ds4_backend.cache.keys import BLOCK_TOKENS, ID_BYTES, block_key, tail_key

MAGIC = b"\x89KV4\xf3\xd5\xc1\xe7"
VERSION = 1
SUM_BYTES = 16
MAX_PAYLOAD = 1 << 30
MAX_POSITION = 1 << 32
_FIXED = struct.Struct("<8sBBHIQQ32s32sQ16s")
LEAST_HEADER = _FIXED.size + SUM_BYTES
MOST_HEADER = LEAST_HEADER + BLOCK_TOKENS * ID_BYTES


class Kind(IntEnum):
    """What a record holds."""

    BLOCK = 1
    """Rows of 128 tokens, final, needed by every later token."""
    TAIL = 2
    """What only a resume at this very token needs."""


class Use(IntEnum):
    """Why a tail was saved."""

    NONE = 0
    GRID = 1
    """A point on the grid of a long prefill."""
    TURN = 2
    """The end of a turn."""
    PROMPT = 3
    """The end of a request's prompt."""
    PREFIX = 4
    """The end of the system prompt and the tools: shared by many conversations."""


class BadRecord(Exception):
    """These bytes are no whole record."""


@dataclass(frozen=True, slots=True)
class Header:
    """A record without its payload. `position` counts the tokens up to its end."""

    kind: Kind
    use: Use
    fingerprint: bytes
    parent: bytes
    tokens: bytes
    position: int
    payload: int
    payload_sum: bytes
    created: int

    @property
    def key(self) -> bytes:
        """The record's name."""
        return (block_key if self.kind is Kind.BLOCK else tail_key)(self.parent, self.tokens)

    @property
    def size(self) -> int:
        """Bytes before the payload."""
        return LEAST_HEADER + len(self.tokens)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole record."""
        return self.size + self.payload


def checksum(data: bytes | memoryview) -> bytes:
    """16 bytes: xxh3-128, which finds damage, not forgery."""
    return xxhash.xxh3_128_digest(data)


def encode(header: Header) -> bytes:
    """The bytes before the payload."""
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        header.kind,
        header.use,
        len(header.tokens) // ID_BYTES,
        header.payload,
        header.position,
        header.fingerprint,
        header.parent,
        header.created,
        header.payload_sum,
    )
    return fixed + header.tokens + checksum(fixed + header.tokens)


def decode(data: bytes | memoryview) -> Header:
    """The header that `data` begins with. Raises BadRecord."""
    if len(data) < LEAST_HEADER:
        raise BadRecord(f"{len(data)} bytes are no header")
    magic, version, kind, use, count, payload, position, fingerprint, parent, created, total = _FIXED.unpack_from(data)
    end = _FIXED.size + count * ID_BYTES
    if magic != MAGIC or version != VERSION or count > BLOCK_TOKENS or len(data) < end + SUM_BYTES:
        raise BadRecord("no header of this version")
    if checksum(memoryview(data)[:end]) != bytes(data[end : end + SUM_BYTES]):
        raise BadRecord("the header's checksum differs")
    if payload > MAX_PAYLOAD or position > MAX_POSITION or kind not in (1, 2) or use > Use.PREFIX:
        raise BadRecord("the header holds impossible values")
    if position % BLOCK_TOKENS != count % BLOCK_TOKENS or (kind == Kind.BLOCK) != (count == BLOCK_TOKENS):
        raise BadRecord("the header's position does not fit its tokens")
    tokens = bytes(data[_FIXED.size : end])
    return Header(Kind(kind), Use(use), fingerprint, parent, tokens, position, payload, total, created)
