"""Pools and rings as numpy arrays, one per layer (see `ops.base.State`). It knows no formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import CSA, HCA, PAGE_TOKENS, Geometry
from ds4_backend.ops.base import Rows, State

Float = NDArray[np.float32]
LEAST_GROWTH = 32
"""Pages or slots that a pool grows by, at least: as many conversations as an engine keeps and answers at once."""
LANE_TOKENS = {"csa": 8, "indexer": 8, "hca": 128}
"""Length of a compressor's ring: two overlapping windows of 4, or one of 128."""


class NumpyState(State):
    """Growing float32 arrays: `pools[kind][ordinal]` [pages, rows, width], `lanes[kind][ordinal]` [slots, 2, m,
    c*width] and `window[layer]` [slots, W, d]."""

    def __init__(self, g: Geometry) -> None:
        width, indexer = g.attention_key_length, g.attention_indexer_key_length
        csa, hca = len(g.layers_of(CSA)), len(g.layers_of(HCA))
        per_csa, per_hca = PAGE_TOKENS // CSA, PAGE_TOKENS // HCA
        self.window = [_empty(g.attention_sliding_window, width) for _ in range(g.block_count)]
        self.pools = {
            "csa": [_empty(per_csa, width) for _ in range(csa)],
            "indexer": [_empty(per_csa, indexer) for _ in range(csa)],
            "hca": [_empty(per_hca, width) for _ in range(hca)],
        }
        self.lanes = {
            "csa": [_empty(2, LANE_TOKENS["csa"], 2 * width) for _ in range(csa)],
            "indexer": [_empty(2, LANE_TOKENS["indexer"], 2 * indexer) for _ in range(csa)],
            "hca": [_empty(2, LANE_TOKENS["hca"], width) for _ in range(hca)],
        }

        self._pages = self._slots = 0

    def reserve(self, pages: int, slots: int) -> None:
        self._pages, self._slots = max(self._pages, pages), max(self._slots, slots)
        for arrays in self.pools.values():
            arrays[:] = [_grown(a, pages) for a in arrays]
        for arrays in (self.window, *self.lanes.values()):
            arrays[:] = [_grown(a, slots) for a in arrays]

    def copy_page(self, source: int, target: int) -> None:
        for array in (a for arrays in self.pools.values() for a in arrays):
            array[target] = array[source]

    def copy_slot(self, source: int, target: int) -> None:
        for array in (*self.window, *(a for arrays in self.lanes.values() for a in arrays)):
            array[target] = array[source]

    def export_pages(self, pages: Sequence[int]) -> Rows:
        index = np.asarray(pages, np.intp)
        return {kind: _stacked([a[index] for a in arrays], 1) for kind, arrays in self.pools.items() if arrays}

    def import_pages(self, pages: Sequence[int], rows: Rows) -> None:
        index = np.asarray(pages, np.intp)
        for kind, arrays in self.pools.items():
            for ordinal, array in enumerate(arrays):
                array[index] = rows[kind][:, ordinal]

    def export_tail(self, slot: int, page: int | None, length: int) -> Rows:
        window = _ring_index(length, min(length, self.window[0].shape[1]), self.window[0].shape[1])
        rows: Rows = {"window": np.stack([a[slot, window] for a in self.window])}
        for kind, arrays in self.lanes.items():
            if arrays:
                index = _ring_index(length, lane_length(kind, length), LANE_TOKENS[kind])
                rows[f"{kind}_lane"] = np.stack([a[slot][:, index] for a in arrays])
        for kind, arrays in self.pools.items():
            count = open_rows(kind, length)
            if arrays and count:
                rows[kind] = np.stack([a[page, :count] for a in arrays])
        return rows

    def import_tail(self, slot: int, page: int | None, length: int, rows: Rows) -> None:
        size = self.window[0].shape[1]
        index = _ring_index(length, min(length, size), size)
        for layer, array in enumerate(self.window):
            array[slot, index] = rows["window"][layer]
        for kind, arrays in self.lanes.items():
            index = _ring_index(length, lane_length(kind, length), LANE_TOKENS[kind])
            for ordinal, array in enumerate(arrays):
                array[slot][:, index] = rows[f"{kind}_lane"][ordinal]
        for kind, arrays in self.pools.items():
            count = open_rows(kind, length)
            for ordinal, array in enumerate(arrays if count else []):
                array[page, :count] = rows[kind][ordinal]

    @property
    def nbytes(self) -> int:
        """Of the pages and slots that were ever asked for; the others of an array take no memory."""
        paged = [a[: self._pages] for arrays in self.pools.values() for a in arrays]
        slotted = [a[: self._slots] for arrays in (self.window, *self.lanes.values()) for a in arrays]
        return sum(a.nbytes for a in (*paged, *slotted))


def lane_length(kind: str, length: int) -> int:
    """How many of the last tokens' (value, gate) pairs a resume at `length` tokens needs."""
    return length % HCA if kind == "hca" else min(length, CSA + length % CSA)


def open_rows(kind: str, length: int) -> int:
    """Closed rows in the page that `length` tokens leave open."""
    return 0 if kind == "hca" else length % PAGE_TOKENS // CSA


def _empty(*shape: int) -> Float:
    return np.zeros((0, *shape), np.float32)


def _grown(array: Float, count: int) -> Float:
    """At least `count` entries, and many more, which take no memory before something is written there. Growing often
    would leave a hole of every former size behind."""
    if count <= len(array):
        return array
    grown = np.zeros((max(count, len(array) + max(LEAST_GROWTH, len(array) // 2)), *array.shape[1:]), np.float32)
    grown[: len(array)] = array
    return grown


def _ring_index(length: int, count: int, size: int) -> NDArray[np.intp]:
    """Places of the last `count` of `length` positions in a ring, oldest first."""
    return np.arange(length - count, length, dtype=np.intp) % size


def _stacked(arrays: list[NDArray[Any]], axis: int) -> NDArray[Any]:
    return np.stack(arrays, axis)
