"""Whether the state of one more conversation fits this machine's memory, beside those in progress. It knows sizes, no
conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ds4_backend.errors import Busy, DoesNotFit
from ds4_backend.gguf.geometry import CSA, HCA, PAGE_TOKENS, Geometry
from ds4_backend.machine import gib, this_machine

ANSWER_TOKENS = 4096
"""What an answer of open length is taken to need."""
SPARE_BYTES = 1 << 30
"""Left to the rest of the system."""
VALUE_BYTES = 4  # float32, the widest that any ops keep


def page_bytes(g: Geometry) -> int:
    """Bytes of 128 tokens' compressed rows: 32 of each CSA layer and its indexer, 1 of each HCA layer."""
    width, indexer = g.attention_key_length, g.attention_indexer_key_length
    csa, hca = len(g.layers_of(CSA)), len(g.layers_of(HCA))
    return VALUE_BYTES * (csa * PAGE_TOKENS // CSA * (width + indexer) + hca * PAGE_TOKENS // HCA * width)


def state_bytes(g: Geometry, tokens: int) -> int:
    """Bytes of one conversation's state after `tokens` tokens: its pages, its rings.

    Rings: the window of every layer; two lanes (value and gate) of two overlapping windows for CSA and its indexer, of
    one window for HCA.
    """
    width, indexer = g.attention_key_length, g.attention_indexer_key_length
    csa, hca = len(g.layers_of(CSA)), len(g.layers_of(HCA))
    lanes = csa * 2 * 2 * CSA * 2 * (width + indexer) + hca * 2 * HCA * width
    rings = g.block_count * g.attention_sliding_window * width + lanes
    return -(-tokens // PAGE_TOKENS) * page_bytes(g) + VALUE_BYTES * rings


class Room:
    """Refuses what does not fit. `available` gives the bytes of memory that are free now."""

    def __init__(
        self,
        geometry: Geometry,
        name: str,
        available: Callable[[], int] = lambda: this_machine().memory_available,
    ) -> None:
        self._geometry, self._name, self._available = geometry, name, available

    def check(self, prompt: int, max_tokens: int | None, others: Sequence[int] = (), pools: int = 0) -> None:
        """Raise DoesNotFit with both numbers where the state of `prompt` tokens and their answer has no room, or Busy
        where it has none beside the `others` in progress, which may become so many tokens each.

        `pools` are the bytes that state has taken already: what is in use there is counted among the requests, the rest
        can be had.
        """
        need = state_bytes(self._geometry, most_tokens(prompt, max_tokens))
        have = max(self._available() - SPARE_BYTES, 0) + pools
        if need > have:
            raise DoesNotFit(
                f"{self._name} needs {gib(need)} of memory for the state of this request ({prompt:,} prompt tokens); "
                f"{gib(have)} is free: end other programs, or shorten the prompt"
            )
        used = sum(state_bytes(self._geometry, tokens) for tokens in others)
        if need + used > have:
            raise Busy(
                f"{self._name} needs {gib(need)} of memory for the state of this request ({prompt:,} prompt tokens); "
                f"of {gib(have)} the {len(others)} requests in progress may take {gib(used)}: try again later"
            )

    def holds(self, tokens: int, free_pages: int) -> bool:
        """Whether so many more tokens have room, in pages that are there and free, or in memory that is free."""
        pages = -(-tokens // PAGE_TOKENS) - free_pages
        return pages <= 0 or page_bytes(self._geometry) * pages <= self._available() - SPARE_BYTES


def most_tokens(prompt: int, max_tokens: int | None) -> int:
    """What a conversation is taken to become."""
    return prompt + (ANSWER_TOKENS if max_tokens is None else max_tokens)
