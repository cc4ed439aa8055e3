"""One CSA and one HCA layer over a paged state: the launches of a decode step, and the state they run on.

Sizes are V4-Flash's: 64 heads of 512, 64 rotary channels, indexer 64 heads of 128, 512 rows chosen, window 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import kernels as k
import numpy as np

Array = Any
HEADS, D, INDEX, TOP = 64, 512, 128, 512
CHUNK = 8192
"""Scores one block of the top-k holds in shared memory."""
FREQS = (160000.0 ** (-np.arange(0, 64, 2) / 64)).astype(np.float32)


@dataclass(frozen=True)
class Layout:
    """Where a layer's rows lie: elements from page to page, and from a page's start to this layer's rows."""

    layers: int = 1
    layer: int = 0
    ring: int = 128

    def place(self, rows: int, width: int) -> tuple[int, int]:
        return self.layers * rows * width, self.layer * rows * width


@dataclass
class Weights:
    """Parameters the bodies read, as device arrays, the same for every layer here."""

    ape: Array
    norm: Array
    index_ape: Array
    index_norm: Array
    hca_ape: Array
    sinks: Array
    freqs: Array


@dataclass
class LayerState:
    """Pools, rings and the chain that orders their readers and writers (`after`)."""

    csa: Array
    index: Array
    hca: Array
    window: Array
    lane: Array
    index_lane: Array
    hca_lane: Array
    layout: Layout
    after: Array


def random_weights(device: Any, rng: np.random.Generator) -> Weights:
    def normal(*shape: int) -> Array:
        return device.array(rng.standard_normal(shape).astype(np.float32))

    return Weights(
        normal(4, 1024), normal(512), normal(4, 256), normal(128), normal(128, 512), normal(64), device.array(FREQS)
    )


def append_csa(device: Any, step: tuple[Array, Array], x: dict[str, Array], w: Weights, s: LayerState) -> None:
    """Window row, both compressors: one launch, in place."""
    csa, index = s.layout.place(32, D), s.layout.place(32, INDEX)
    n = x["window_row"].shape[0]
    (s.after,) = device.run(
        k.APPEND_CSA,
        [
            *step,
            x["window_row"],
            x["value"],
            x["gate"],
            w.ape,
            w.norm,
            x["index_value"],
            x["index_gate"],
            w.index_ape,
            w.index_norm,
            w.freqs,
            s.window,
            s.lane,
            s.index_lane,
            s.csa,
            s.index,
            s.after,
        ],
        [((n, 3), "int32")],
        (3, n, 1),
        256,
        RING=s.layout.ring,
        CSA_STRIDE=csa[0],
        CSA_OFFSET=csa[1],
        INDEX_STRIDE=index[0],
        INDEX_OFFSET=index[1],
    )


def append_hca(device: Any, step: tuple[Array, Array], x: dict[str, Array], w: Weights, s: LayerState) -> None:
    """Window row and the HCA compressor: one launch, in place."""
    hca = s.layout.place(1, D)
    n = x["window_row"].shape[0]
    (s.after,) = device.run(
        k.APPEND_HCA,
        [
            *step,
            x["window_row"],
            x["hca_value"],
            x["hca_gate"],
            w.hca_ape,
            w.norm,
            w.freqs,
            s.window,
            s.hca_lane,
            s.hca,
            s.after,
        ],
        [((n, 2), "int32")],
        (2, n, 1),
        512,
        RING=s.layout.ring,
        HCA_STRIDE=hca[0],
        HCA_OFFSET=hca[1],
    )


def score(
    device: Any, step: tuple[Array, Array], iq: Array, weights: Array, s: LayerState, rows: int, blocks: int
) -> Array:
    """Scores [S, rows] of all visible rows; `rows` is the width of the result, at least the most visible ones."""
    index = s.layout.place(32, INDEX)
    n = iq.shape[0]
    (scores,) = device.run(
        k.SCORE,
        [*step, iq, weights, s.index, s.after],
        [((n, rows), "float32")],
        (blocks, n, 1),
        128,
        ROWS=rows,
        INDEX_STRIDE=index[0],
        INDEX_OFFSET=index[1],
    )
    return scores


def top_k(device: Any, spans: Array, scores: Array, after: Array | None = None) -> Array:
    """Chosen rows [S, 512] in row order: one launch up to 8192 rows, else one per chunk and one to merge."""
    n, rows = scores.shape
    chunks = -(-rows // CHUNK)
    chosen, best = device.run(
        k.TOP_K,
        [spans, scores, spans if after is None else after],
        [((n, chunks * TOP), "int32"), ((n, chunks * TOP), "float32")],
        (chunks, n, 1),
        1024,
        CHUNK * 4,
        CHUNK=CHUNK,
        ROWS=rows,
        K=TOP,
        MERGE=0,
    )
    if chunks == 1:
        return chosen
    chunk = -(-chunks * TOP // 1024) * 1024
    chosen, _ = device.run(
        k.TOP_K,
        [spans, best, chosen],
        [((n, TOP), "int32"), ((n, TOP), "float32")],
        (1, n, 1),
        1024,
        chunk * 4,
        CHUNK=chunk,
        ROWS=chunks * TOP,
        K=TOP,
        MERGE=1,
    )
    return chosen


def attend(
    device: Any,
    step: tuple[Array, Array],
    q: Array,
    w: Weights,
    s: LayerState,
    chosen: Array,
    rows: int,
    every: bool,
    split: int = 64,
) -> Array:
    """Heads [S, 64, 512] over the window and the chosen rows (or `rows` HCA rows); two launches."""
    n, per_page = q.shape[0], 1 if every else 32
    place = s.layout.place(per_page, D)
    splits = 128 // split + -(-rows // split)
    shared = split * 520 * 2 + 16 * (split + 8) * 2 + 128 // split * 16 * (split + 4) * 4
    parts, stats = device.run(
        k.ATTEND,
        [*step, q, s.window, s.hca if every else s.csa, chosen, s.after],
        [((n, splits, HEADS, D), "float32"), ((n, splits, HEADS, 2), "float32")],
        (splits, 4, n),
        256,
        shared,
        SPLIT=split,
        RING=s.layout.ring,
        EVERY=int(every),
        PER_PAGE=per_page,
        POOL_STRIDE=place[0],
        POOL_OFFSET=place[1],
        K=TOP,
    )
    (out,) = device.run(
        k.COMBINE,
        [step[0], parts, stats, w.sinks, w.freqs],
        [((n, HEADS, D), "float32")],
        (1, HEADS, n),
        128,
        SPLITS=splits,
    )
    s.after = out  # the next writer of this layer's rings must wait for this reader
    return out
