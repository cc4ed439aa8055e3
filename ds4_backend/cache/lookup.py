"""How far a prompt is stored: the longest unbroken chain of blocks, and the highest tail on it.

It reads the index and, to show where two texts part, one record's header. It loads no state.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ds4_backend.cache.files import Files
from ds4_backend.cache.index import Block, Index, Tail
from ds4_backend.cache.keys import BLOCK_TOKENS, Chain, start_key, tail_key, unpack_ids
from ds4_backend.cache.records import BadRecord
from ds4_backend.cache.segments import read_header


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where the prompt left what is stored: the position, and the token ids from there to the stored block's end on
    both sides."""

    at: int
    stored: tuple[int, ...]
    wanted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """What a lookup found. It is false where nothing can be resumed.

    `length` tokens can be taken over, `matched` had the same ids as stored blocks, `wanted` is the prompt's length.
    `reason` says why it is not more: "" (nothing more was ever stored), `no-match`, `fingerprint`, `diverged`,
    `no-tail`, `checksum`, or `off`.
    """

    length: int
    matched: int
    wanted: int
    reason: str = ""
    blocks: tuple[Block, ...] = ()
    tail: Tail | None = None
    divergence: Divergence | None = None
    lease: bytes = b""
    fingerprint: bytes = field(default=b"", repr=False)

    def __bool__(self) -> bool:
        return self.length > 0

    @property
    def nbytes(self) -> int:
        """Payload bytes that a load reads."""
        return sum(block.place.payload for block in self.blocks) + (self.tail.place.payload if self.tail else 0)

    @property
    def why(self) -> str:
        """The reason in words, such as `diverged-at 384 of 2300`."""
        if self.reason == "diverged" and self.divergence:
            return f"diverged-at {self.divergence.at} of {self.wanted}"
        return self.reason


def find(index: Index, folder: Path, files: Files, chain: Chain, limit: int) -> Hit:
    """The best resume point of `chain` at or below `limit` tokens."""
    keys = chain.keys[1 : chain.length // BLOCK_TOKENS + 1]
    known = index.blocks(keys)
    count = next((i for i, key in enumerate(keys) if key not in known), len(keys))
    tail = _best_tail(index, chain, count, limit)
    length = tail.position if tail else 0
    blocks = tuple(known[key] for key in keys[: length // BLOCK_TOKENS])
    parting = _divergence(index, folder, files, chain, count)
    matched = max(count * BLOCK_TOKENS, length)
    reason = _reason(index, chain, limit, length, matched, parting)
    return Hit(length, matched, chain.length, reason, blocks, tail, parting, os.urandom(8), chain.fingerprint)


def _best_tail(index: Index, chain: Chain, count: int, limit: int) -> Tail | None:
    tails = [tail for tail in index.tails(chain.keys[: count + 1]) if 0 < tail.position <= limit]
    for tail in sorted(tails, key=lambda tail: -tail.position):
        full = tail.position // BLOCK_TOKENS
        # the index may be damaged: a tail counts only where its name follows from the prompt
        if full <= count and tail.key == tail_key(*chain.tail(tail.position)) and tail.chain == chain.keys[full]:
            return tail
    return None


def _divergence(index: Index, folder: Path, files: Files, chain: Chain, count: int) -> Divergence | None:
    """The stored block after the last matched one that agrees longest with the prompt; None where it only ends."""
    start = count * BLOCK_TOKENS
    wanted = unpack_ids(chain.packed(start, start + BLOCK_TOKENS))
    if not wanted:
        return None
    best: Divergence | None = None
    for block in index.children(chain.keys[count]):
        stored = _tokens(folder, files, block)
        same = next((i for i, pair in enumerate(zip(stored, wanted, strict=False)) if pair[0] != pair[1]), None)
        if same is not None and (best is None or start + same > best.at):
            best = Divergence(start + same, stored[same:], wanted[same:])
    return best


def _tokens(folder: Path, files: Files, block: Block) -> tuple[int, ...]:
    with suppress(OSError, BadRecord):
        fd = files.open_read(folder / block.place.name)
        try:
            header = read_header(fd, block.place.offset)
        finally:
            os.close(fd)
        if header.key == block.key:
            return unpack_ids(header.tokens)
    return ()


def _reason(
    index: Index, chain: Chain, limit: int, length: int, matched: int, parting: Divergence | None
) -> str:  # fmt: skip
    if matched < BLOCK_TOKENS and not length:
        if len(chain.keys) > 1 and index.starts_elsewhere(start_key(chain.block_tokens(0)), chain.fingerprint):
            return "fingerprint"
        return "no-match"
    if length < min(matched, limit) // BLOCK_TOKENS * BLOCK_TOKENS:
        return "no-tail"
    return "diverged" if parting else ""
