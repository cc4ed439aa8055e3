"""Pools and tails as MLX arrays (see `ops.base.State`). It knows no formulas.

MLX writes a slice of an evaluated array by copying the whole array. So a pool is a list of shards of 64 pages: a write
copies one shard (4 MiB of CSA rows for Flash, once in 4 tokens), however long the context is; a read joins the shards
of one conversation (a view as long as its pages are one run in one shard). Rings are small, and kept as *tails*, oldest
token first, of just what a resume needs; a new one is made at each step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import CSA, HCA, PAGE_TOKENS, Geometry
from ds4_backend.ops.base import Rows, State
from ds4_backend.ops.numpy.state import lane_length, open_rows

SHARD_PAGES = 64


class Pool:
    """One layer's closed rows of one class: shards [64 * rows of a page, width]."""

    def __init__(self, page_rows: int, width: int) -> None:
        self.page_rows, self.width = page_rows, width
        self.shards: list[mx.array] = []

    def reserve(self, pages: int) -> None:
        while len(self.shards) * SHARD_PAGES < pages:
            self.shards.append(mx.zeros((SHARD_PAGES * self.page_rows, self.width)))

    def read(self, pages: Sequence[int], count: int) -> mx.array:
        """The first `count` rows [count, width] of a page table."""
        runs = [self.shards[shard][at : at + length] for shard, at, length in self._runs(pages, 0, count)]
        if not runs:
            return mx.zeros((0, self.width))
        return runs[0] if len(runs) == 1 else mx.concatenate(runs)

    def write(self, pages: Sequence[int], first: int, rows: mx.array) -> list[mx.array]:
        """Put rows [n, width] at row number `first` onward of a page table. Returns the shards touched."""
        done, touched = 0, []
        for shard, at, length in self._runs(pages, first, rows.shape[0]):
            self.shards[shard][at : at + length] = rows[done : done + length]
            done += length
            touched.append(self.shards[shard])
        return touched

    def to_host(self, pages: Sequence[int]) -> NDArray[np.float32]:
        """Whole pages, [len(pages), rows of a page, width]."""
        rows = np.array(self.read(pages, len(pages) * self.page_rows))
        return rows.reshape(len(pages), self.page_rows, self.width)

    def _runs(self, pages: Sequence[int], first: int, count: int) -> Iterator[tuple[int, int, int]]:
        """Where rows `first` to `first + count` of a page table lie, as (shard, row in shard, length) runs."""
        run: tuple[int, int, int] | None = None
        end = first + count
        while first < end:
            page, row = pages[first // self.page_rows], first % self.page_rows
            shard, at = page // SHARD_PAGES, page % SHARD_PAGES * self.page_rows + row
            length = min(self.page_rows - row, end - first)
            if run is not None and (run[0], run[1] + run[2]) == (shard, at):
                run = (shard, run[1], run[2] + length)
            else:
                if run is not None:
                    yield run
                run = (shard, at, length)
            first += length
        if run is not None:
            yield run


class MlxState(State):
    """`pools[kind][ordinal]`, and `tails[kind][ordinal][slot]`: `window` [m, d], lanes [2, m, c*width]."""

    def __init__(self, g: Geometry) -> None:
        width, indexer = g.attention_key_length, g.attention_indexer_key_length
        csa, hca = len(g.layers_of(CSA)), len(g.layers_of(HCA))
        self.window_size = g.attention_sliding_window
        self.pools = {
            "csa": [Pool(PAGE_TOKENS // CSA, width) for _ in range(csa)],
            "indexer": [Pool(PAGE_TOKENS // CSA, indexer) for _ in range(csa)],
            "hca": [Pool(PAGE_TOKENS // HCA, width) for _ in range(hca)],
        }
        self._empty = {
            "window": mx.zeros((0, width)),
            "csa": mx.zeros((2, 0, 2 * width)),
            "indexer": mx.zeros((2, 0, 2 * indexer)),
            "hca": mx.zeros((2, 0, width)),
        }
        layers = {"window": g.block_count, "csa": csa, "indexer": csa, "hca": hca}
        self.tails: dict[str, list[list[mx.array]]] = {kind: [[] for _ in range(n)] for kind, n in layers.items()}
        self._changed: list[mx.array] = []

    # What the ops use

    def tail_length(self, kind: str, length: int) -> int:
        """How many of the last tokens' entries a resume at `length` tokens needs."""
        return min(length, self.window_size) if kind == "window" else lane_length(kind, length)

    def tail(self, kind: str, ordinal: int, slot: int, length: int) -> mx.array:
        """What a slot, at `length` tokens, carries over, oldest token first; a reused slot at 0 carries nothing."""
        return _last(self.tails[kind][ordinal][slot], self.tail_length(kind, length))

    def keep_tail(self, kind: str, ordinal: int, slot: int, length: int, tokens: mx.array) -> None:
        """Carry over what a resume at `length` needs; `tokens` ends with the entry of token `length - 1`."""
        kept = mx.contiguous(_last(tokens, self.tail_length(kind, length)))
        self.tails[kind][ordinal][slot] = kept
        self._changed.append(kept)

    def store(self, kind: str, ordinal: int, pages: Sequence[int], first: int, rows: mx.array) -> None:
        """Put closed rows into a pool."""
        self._changed += self.pools[kind][ordinal].write(pages, first, rows)

    def settle(self, *arrays: mx.array) -> None:
        """Evaluate all that was written, and `arrays`, so that no graph grows from step to step."""
        mx.eval(*arrays, *self._changed)
        self._changed.clear()

    # The contract

    def reserve(self, pages: int, slots: int) -> None:
        for pool in self._all_pools():
            pool.reserve(pages)
        for kind, layers in self.tails.items():
            for layer in layers:
                layer += [self._empty[kind]] * (slots - len(layer))

    def copy_page(self, source: int, target: int) -> None:
        for pool in self._all_pools():
            self._changed += pool.write([target], 0, pool.read([source], pool.page_rows))
        self.settle()

    def copy_slot(self, source: int, target: int) -> None:
        for layers in self.tails.values():
            for layer in layers:
                layer[target] = layer[source]  # tails are never written in place, so both may hold the same one

    def export_pages(self, pages: Sequence[int]) -> Rows:
        return {kind: np.stack([p.to_host(pages) for p in pools], 1) for kind, pools in self.pools.items() if pools}

    def import_pages(self, pages: Sequence[int], rows: Rows) -> None:
        for kind, pools in self.pools.items():
            for ordinal, pool in enumerate(pools):
                self.store(kind, ordinal, pages, 0, _device(rows[kind][:, ordinal].reshape(-1, pool.width)))
        self.settle()

    def export_tail(self, slot: int, page: int | None, length: int) -> Rows:
        rows: Rows = {}
        for kind, layers in self.tails.items():
            if layers:
                tails = [self.tail(kind, ordinal, slot, length) for ordinal in range(len(layers))]
                rows[_tail_name(kind)] = np.stack([np.array(t) for t in tails])
        for kind, pools in self.pools.items():
            count = open_rows(kind, length)
            if pools and count and page is not None:
                rows[kind] = np.stack([np.array(p.read([page], count)) for p in pools])
        return rows

    def import_tail(self, slot: int, page: int | None, length: int, rows: Rows) -> None:
        for kind, layers in self.tails.items():
            for ordinal in range(len(layers)):
                self.keep_tail(kind, ordinal, slot, length, _device(rows[_tail_name(kind)][ordinal]))
        for kind, pools in self.pools.items():
            if open_rows(kind, length) and page is not None:
                for ordinal in range(len(pools)):
                    self.store(kind, ordinal, [page], 0, _device(rows[kind][ordinal]))
        self.settle()

    @property
    def nbytes(self) -> int:
        tails = (tail for layers in self.tails.values() for layer in layers for tail in layer)
        return sum(a.nbytes for a in tails) + sum(s.nbytes for p in self._all_pools() for s in p.shards)

    def _all_pools(self) -> list[Pool]:
        return [pool for pools in self.pools.values() for pool in pools]


def _tail_name(kind: str) -> str:
    return kind if kind == "window" else f"{kind}_lane"


def _last(tokens: mx.array, count: int) -> mx.array:
    """The last `count` entries of the token axis, which is the last but one."""
    return tokens[..., tokens.shape[-2] - count :, :]


def _device(array: NDArray[Any]) -> mx.array:
    return mx.array(np.ascontiguousarray(array, np.float32))
