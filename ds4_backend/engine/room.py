"""Whether the state of one more conversation fits this machine's memory. It knows sizes, no conversations."""

from __future__ import annotations

from collections.abc import Callable

from ds4_backend.errors import DoesNotFit
from ds4_backend.gguf.geometry import CSA, HCA, PAGE_TOKENS, Geometry
from ds4_backend.machine import gib, this_machine

ANSWER_TOKENS = 4096
"""What an answer of open length is taken to need."""
SPARE_BYTES = 1 << 30
"""Left to the rest of the system."""
VALUE_BYTES = 4  # float32, the widest that any ops keep


def state_bytes(g: Geometry, tokens: int) -> int:
    """Bytes of one conversation's state after `tokens` tokens: its pages of compressed rows, its rings.

    Rows per page of 128 tokens: 32 of each CSA layer and its indexer, 1 of each HCA layer. Rings: the window of every
    layer; two lanes (value and gate) of two overlapping windows for CSA and its indexer, of one window for HCA.
    """
    width, indexer = g.attention_key_length, g.attention_indexer_key_length
    csa, hca = len(g.layers_of(CSA)), len(g.layers_of(HCA))
    page = csa * PAGE_TOKENS // CSA * (width + indexer) + hca * PAGE_TOKENS // HCA * width
    lanes = csa * 2 * 2 * CSA * 2 * (width + indexer) + hca * 2 * HCA * width
    rings = g.block_count * g.attention_sliding_window * width + lanes
    return VALUE_BYTES * (-(-tokens // PAGE_TOKENS) * page + rings)


class Room:
    """Refuses what does not fit. `available` gives the bytes of memory that are free now."""

    def __init__(
        self,
        geometry: Geometry,
        name: str,
        available: Callable[[], int] = lambda: this_machine().memory_available,
    ) -> None:
        self._geometry, self._name, self._available = geometry, name, available

    def check(self, prompt: int, max_tokens: int | None) -> None:
        """Raise DoesNotFit with both numbers where the state of `prompt` tokens and their answer has no room."""
        need = state_bytes(self._geometry, prompt + (ANSWER_TOKENS if max_tokens is None else max_tokens))
        free = self._available() - SPARE_BYTES
        if need > free:
            raise DoesNotFit(
                f"{self._name} needs {gib(need)} of memory for the state of this request ({prompt:,} prompt tokens); "
                f"{gib(max(free, 0))} is free: end other programs, or shorten the prompt"
            )
