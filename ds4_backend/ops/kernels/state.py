"""Pools and rings as device arrays that kernels write in place (see `ops.base.State`). It knows no formulas.

MLX does not know of such a write, so order is carried by arrays: a writer takes an output of the last reader as an
input (`after`), and every reader takes the writer's output. Nobody else may hold a pool. Reading by MLX's own
operations (export, growth) evaluates the last user first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import CSA, HCA, PAGE_TOKENS, SLIDING, Geometry
from ds4_backend.ops.base import Packed, Rows, State
from ds4_backend.ops.kernels import bodies
from ds4_backend.ops.kernels.kernel import Launcher
from ds4_backend.ops.mlx.linear import on_device
from ds4_backend.ops.numpy.state import lane_length, open_rows

Places = list[tuple[int, int]]
UPLOAD_PAGES = 1024
"""Stored pages that go to the device at a time: half a gigabyte for Flash."""
GROWTH = 8
"""A pool grows by at least an eighth: what is reserved too much stays small, and growth (a copy) rare."""


class KernelState(State):
    """`pools[kind][ordinal]` float16 [pages * rows, width], `window[layer]` float16 [slots * R, d], and
    `lanes[kind][ordinal]` float32 [slots * 2 * R, c * width]."""

    def __init__(self, g: Geometry, launcher: Launcher) -> None:
        self.geometry, self.launcher = g, launcher
        self.window_size, self.ring = g.attention_sliding_window, bodies.ring_size(g)
        width, indexer = g.attention_key_length, g.attention_indexer_key_length
        csa, hca = len(g.layers_of(CSA)), len(g.layers_of(HCA))
        self.widths = {"csa": width, "indexer": indexer, "hca": width}
        self.page_rows = {"csa": PAGE_TOKENS // CSA, "indexer": PAGE_TOKENS // CSA, "hca": PAGE_TOKENS // HCA}
        self.rings = {"csa": bodies.CSA_RING, "indexer": bodies.CSA_RING, "hca": bodies.HCA_RING}
        layers = {"csa": csa, "indexer": csa, "hca": hca}
        self.pages = self.slots = 0
        self.pools: dict[str, list[mx.array]] = {kind: [_empty(2)] * n for kind, n in layers.items()}
        self.lanes: dict[str, list[mx.array]] = {kind: [_empty(4)] * n for kind, n in layers.items()}
        self.window: list[mx.array] = [_empty(2)] * g.block_count
        self.after: list[mx.array] = [mx.zeros((8,), mx.int32)] * g.block_count
        self.layer_of = {"csa": g.layers_of(CSA), "indexer": g.layers_of(CSA), "hca": g.layers_of(HCA)}

    def settle(self) -> None:
        """Wait for every kernel that writes or reads the state."""
        mx.eval(*self.after)

    # The contract

    def reserve(self, pages: int, slots: int) -> None:
        if pages <= self.pages and slots <= self.slots:
            return
        self.settle()
        if pages > self.pages:
            self.pages = max(pages, self.pages + self.pages // GROWTH, 16)
            for kind, pools in self.pools.items():
                shape = (self.pages * self.page_rows[kind], self.widths[kind])
                _grow_all(pools, shape)
        if slots > self.slots:
            self.slots = max(slots, self.slots + 2)
            _grow_all(self.window, (self.slots * self.ring, self.widths["csa"]))
            for kind, lanes in self.lanes.items():
                columns = self.widths[kind] * (1 if kind == "hca" else 2)
                _grow_all(lanes, (self.slots * 2 * self.rings[kind], columns))

    def copy_page(self, source: int, target: int) -> None:
        for kind, pools in self.pools.items():
            for ordinal, pool in enumerate(pools):
                self._move(pool, pool, self._page_nbytes(kind), [(source, target)], self.layer_of[kind][ordinal])

    def copy_slot(self, source: int, target: int) -> None:
        for layer, window in enumerate(self.window):
            self._move(window, window, self.ring * self.widths["csa"] * 2, [(source, target)], layer)
        for kind, lanes in self.lanes.items():
            for ordinal, lane in enumerate(lanes):
                size = 2 * self.rings[kind] * lane.shape[1] * 4
                self._move(lane, lane, size, [(source, target)], self.layer_of[kind][ordinal])

    def export_pages(self, pages: Sequence[int]) -> Rows:
        self.settle()
        index = mx.array(np.asarray(pages, np.int32))
        rows: Rows = {}
        for kind, pools in self.pools.items():
            if pools:
                shape = (len(pages), self.page_rows[kind], self.widths[kind])
                taken = [_host(p.reshape(self.pages, -1)[index]).reshape(shape) for p in pools]
                rows[kind] = np.stack(taken, 1)
        return rows

    def import_pages(self, pages: Sequence[int], rows: Rows) -> None:
        for kind, pools in self.pools.items():
            places = [(i, page) for i, page in enumerate(pages)]
            for ordinal, pool in enumerate(pools):
                source = mx.array(np.ascontiguousarray(rows[kind][:, ordinal], np.float16).reshape(-1))
                self._move(pool, source, self._page_nbytes(kind), places, self.layer_of[kind][ordinal])

    def import_packed(self, pages: Sequence[int], packed: Packed) -> None:
        """One copy to the device for `UPLOAD_PAGES` pages, and a launch a layer that unpacks them into its pools."""
        for start in range(0, len(pages), UPLOAD_PAGES):
            raw = on_device(packed.raw[start : start + UPLOAD_PAGES])
            mx.eval(raw, *self.after)
            numbers = pages[start : start + UPLOAD_PAGES]
            mx.eval([self._unpack(layer, numbers, raw, packed) for layer in range(len(self.window))])

    def _unpack(self, layer: int, pages: Sequence[int], raw: mx.array, packed: Packed) -> list[mx.array]:
        g, ratio = self.geometry, self.geometry.ratio(layer)
        if ratio == SLIDING:
            return []
        kinds = ("csa", "indexer") if ratio == CSA else ("hca",)
        ordinal = self.layer_of[kinds[0]].index(layer)
        nbytes = [packed.row_nbytes[kind] for kind in kinds]
        places = [packed.at[kind] + ordinal * self.page_rows[kind] * n for kind, n in zip(kinds, nbytes, strict=True)]
        numbers = np.zeros(8 + len(pages), np.int32)
        numbers[: len(kinds)], numbers[8:] = places, pages
        kernel = bodies.unpack(g, ratio, raw.shape[1], nbytes[0], nbytes[-1])
        blocks = -(-sum(self.page_rows[kind] for kind in kinds) * 32 // kernel.threads)
        inputs = [raw, mx.array(numbers), *(self.pools[kind][ordinal] for kind in kinds)]
        outputs = [((max(len(pages), 8),), "int32")]
        return self.launcher.run(kernel, inputs, outputs, (blocks, len(pages), 1))

    def export_tail(self, slot: int, page: int | None, length: int) -> Rows:
        self.settle()
        index = _ring(length, min(length, self.window_size), self.ring)
        rows: Rows = {
            "window": np.stack([_host(w[slot * self.ring : (slot + 1) * self.ring])[index] for w in self.window])
        }
        for kind, lanes in self.lanes.items():
            if lanes:
                size = self.rings[kind]
                index = _ring(length, lane_length(kind, length), size)
                taken = [
                    _host(a[slot * 2 * size : (slot + 1) * 2 * size]).reshape(2, size, -1)[:, index] for a in lanes
                ]
                rows[f"{kind}_lane"] = np.stack(taken)
        for kind, pools in self.pools.items():
            count = open_rows(kind, length)
            if pools and count and page is not None:
                first = page * self.page_rows[kind]
                rows[kind] = np.stack([_host(p[first : first + count]) for p in pools])
        return rows

    def import_tail(self, slot: int, page: int | None, length: int, rows: Rows) -> None:
        index = _ring(length, min(length, self.window_size), self.ring)
        for layer, window in enumerate(self.window):
            whole = np.zeros((self.ring, window.shape[1]), np.float16)
            whole[index] = rows["window"][layer]
            self._move(window, mx.array(whole), whole.nbytes, [(0, slot)], layer)
        for kind, lanes in self.lanes.items():
            index = _ring(length, lane_length(kind, length), self.rings[kind])
            for ordinal, lane in enumerate(lanes):
                ring = np.zeros((2, self.rings[kind], lane.shape[1]), np.float32)
                ring[:, index] = rows[f"{kind}_lane"][ordinal]
                self._move(lane, mx.array(ring), ring.nbytes, [(0, slot)], self.layer_of[kind][ordinal])
        for kind, pools in self.pools.items():
            count = open_rows(kind, length)
            for ordinal, pool in enumerate(pools if count and page is not None else []):
                part = np.zeros((self.page_rows[kind], pool.shape[1]), np.float16)
                part[:count] = rows[kind][ordinal]
                self._move(pool, mx.array(part), part.nbytes, [(0, page or 0)], self.layer_of[kind][ordinal])

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in self.arrays)

    @property
    def arrays(self) -> list[mx.array]:
        """All pools and rings; `reserve` replaces them when it changes `pages` or `slots`."""
        return [*self.window, *(a for group in (self.pools, self.lanes) for kind in group.values() for a in kind)]

    def _page_nbytes(self, kind: str) -> int:
        return self.page_rows[kind] * self.widths[kind] * 2

    def _move(self, target: mx.array, source: mx.array, nbytes: int, places: Places, layer: int) -> None:
        """Copy units of `nbytes` from the source's places into the target's, in place and at once."""
        mx.eval(self.after[layer], source)
        numbers = np.zeros(8 + 2 * len(places), np.int32)
        numbers[0] = words = nbytes // 16
        numbers[8:] = np.asarray(places, np.int32).reshape(-1)
        groups = (-(-words // bodies.TILE_THREADS), len(places), 1)
        (done,) = self.launcher.run(
            bodies.move(), [target, source, mx.array(numbers)], [((max(len(places), 8),), "int32")], groups
        )
        mx.eval(done)


def _empty(nbytes: int) -> mx.array:
    return mx.zeros((0, 1), mx.float16 if nbytes == 2 else mx.float32)


def _grow_all(arrays: list[mx.array], shape: tuple[int, int]) -> None:
    """Each array with zeros behind it, one after another so that only one is held twice."""
    for i, array in enumerate(arrays):
        more = mx.zeros((shape[0] - array.shape[0], shape[1]), array.dtype)
        arrays[i] = mx.contiguous(mx.concatenate([array, more]) if array.shape[0] else more)
        del array, more
        mx.eval(arrays[i])


def _host(array: mx.array) -> NDArray[np.float32]:
    # a copy on the device: what MLX once gave to numpy would stay in managed memory
    return np.array(mx.contiguous(array) + mx.zeros((1,), array.dtype)).astype(np.float32)


def _ring(length: int, count: int, size: int) -> NDArray[Any]:
    """Places of the last `count` of `length` positions in a ring, oldest first."""
    return np.arange(length - count, length) % size
