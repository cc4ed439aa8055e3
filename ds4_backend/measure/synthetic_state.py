"""Conversations of any length without reading a prompt: pages of random rows, imported as if from the cache.

Rows are of the size that norms give them, rounded as the cache simulation rounds them, so that any form of storage
holds them exactly. What is decoded on top of them means nothing; it costs what a real context of that length costs. It
knows the state's exported form and no device.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ds4_backend.gguf.geometry import CSA, HCA, PAGE_TOKENS, Geometry
from ds4_backend.model import Model, Sequence
from ds4_backend.ops.base import Rows
from ds4_backend.ops.numpy.state import lane_length, open_rows
from ds4_backend.ops.simulate import round_indexer, round_rows

BATCH_PAGES = 64
"""Pages imported at once: 112 MB of float32 for Flash."""


def synthetic_sequence(model: Model, length: int, seed: int = 0) -> Sequence:
    """A conversation that stands at `length` tokens; release it when done."""
    g, full = model.geometry, length // PAGE_TOKENS
    rng = np.random.default_rng(seed)
    model.state.reserve(model.arena.pages_in_use + full + 1, 0)  # once, not page by page
    sequence = model.new_sequence()
    span = sequence.span(length)
    first = page_rows(g, min(full, BATCH_PAGES), rng, model.ops.cache_simulation) if full else {}
    for start, rows in _batches(first, full):
        pages = span.pages[start : min(start + BATCH_PAGES, full)]
        model.state.import_pages(pages, {kind: part[: len(pages)] for kind, part in rows.items()})
    sequence.length = length
    open_page = span.pages[full] if length % PAGE_TOKENS else None
    model.state.import_tail(span.slot, open_page, length, tail_rows(g, length, rng, model.ops.cache_simulation))
    return sequence


def page_rows(g: Geometry, pages: int, rng: np.random.Generator, rounded: bool) -> Rows:
    """Rows of full pages, as `State.export_pages` gives them."""
    csa, hca = len(g.layers_of(CSA)), len(g.layers_of(HCA))
    width, narrow = g.attention_key_length, g.attention_indexer_key_length
    rows: Rows = {}
    if csa:
        rows["csa"] = _rows((pages, csa, PAGE_TOKENS // CSA, width), g, rng, rounded)
        rows["indexer"] = _indexer((pages, csa, PAGE_TOKENS // CSA, narrow), rng, rounded)
    if hca:
        rows["hca"] = _rows((pages, hca, PAGE_TOKENS // HCA, width), g, rng, rounded)
    return rows


def tail_rows(g: Geometry, length: int, rng: np.random.Generator, rounded: bool) -> Rows:
    """What a resume at `length` needs beside full pages, as `State.export_tail` gives it."""
    csa, hca = len(g.layers_of(CSA)), len(g.layers_of(HCA))
    width, narrow = g.attention_key_length, g.attention_indexer_key_length
    window = (g.block_count, min(length, g.attention_sliding_window), width)
    rows: Rows = {"window": _rows(window, g, rng, rounded)}
    for kind, layers, lane in (("csa", csa, 2 * width), ("indexer", csa, 2 * narrow), ("hca", hca, width)):
        if layers:
            shape = (layers, 2, lane_length(kind, length), lane)
            rows[f"{kind}_lane"] = rng.standard_normal(shape, np.float32)
    if csa and (count := open_rows("csa", length)):
        rows["csa"] = _rows((csa, count, width), g, rng, rounded)
        rows["indexer"] = _indexer((csa, count, narrow), rng, rounded)
    return rows


def _batches(first: Rows, full: int) -> Iterator[tuple[int, Rows]]:
    """The same rows again and again, each time in other layers and with other signs, so that few scores are equal."""
    for number, start in enumerate(range(0, full, BATCH_PAGES)):
        sign = np.float32(-1 if number % 2 else 1)
        yield start, {kind: np.roll(rows, number // 2, axis=1) * sign for kind, rows in first.items()}


def _rows(shape: tuple[int, ...], g: Geometry, rng: np.random.Generator, rounded: bool) -> np.ndarray:
    rows = rng.standard_normal(shape, np.float32)
    return round_rows(rows, g.rope_dimension_count) if rounded else rows


def _indexer(shape: tuple[int, ...], rng: np.random.Generator, rounded: bool) -> np.ndarray:
    rows = rng.standard_normal(shape, np.float32)
    return round_indexer(rows) if rounded else rows
