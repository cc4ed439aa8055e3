"""What the writer is asked to do: store a block, store a tail, or run an errand in the index.

A job holds everything it needs, so that the caller may go on and change its own state. It knows no files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ds4_backend.cache.index import Index
from ds4_backend.cache.keys import BLOCK_TOKENS, ID_BYTES, tail_key
from ds4_backend.cache.records import Kind, Use

GAPS = {Use.GRID: 1024, Use.TURN: 256, Use.PROMPT: 1, Use.PREFIX: 1}
"""A tail nearer than this many tokens above the next lower one of its chain is not worth its bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockJob:
    """Store one block; it ends after `position` tokens."""

    key: bytes
    parent: bytes
    fingerprint: bytes
    tokens: bytes
    position: int
    payload: memoryview

    kind = Kind.BLOCK
    use = Use.NONE

    @property
    def nbytes(self) -> int:
        return len(self.payload) + len(self.tokens)


@dataclass(frozen=True, slots=True, eq=False)
class TailJob:
    """Store one tail, after `position` tokens. `path` are the keys from the root to the last full block, `ids` the
    packed ids of all tokens."""

    path: tuple[bytes, ...]
    ids: bytes
    fingerprint: bytes
    position: int
    payload: memoryview
    use: Use

    kind = Kind.TAIL

    @property
    def parent(self) -> bytes:
        return self.path[-1]

    @property
    def tokens(self) -> bytes:
        """The packed ids after the last full block."""
        return self.ids[self.position // BLOCK_TOKENS * BLOCK_TOKENS * ID_BYTES :]

    @property
    def key(self) -> bytes:
        return tail_key(self.parent, self.tokens)

    @property
    def nbytes(self) -> int:
        return len(self.payload) + len(self.ids) + len(self.path) * len(self.parent)

    def passes(self, chain: bytes, key: bytes, position: int) -> bool:
        """Whether a tail of that name lies on this one's way from the root, or is it itself."""
        full = position // BLOCK_TOKENS
        if position > self.position or self.path[full] != chain:
            return False
        return tail_key(chain, self.ids[full * BLOCK_TOKENS * ID_BYTES : position * ID_BYTES]) == key


@dataclass(frozen=True, slots=True, eq=False)
class Errand:
    """A small change of the index: touch, lease, count, turn record. It runs within a transaction. `over` is called
    once it is done, or given up."""

    run: Callable[[Index], object]
    nbytes: int = 0
    over: Callable[[], object] = lambda: None


Job = BlockJob | TailJob | Errand
