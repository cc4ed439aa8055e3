"""What one forward pass prepares once, as one int32 array: `text/step.msl` reads it. Plain numpy but for the upload."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import CSA, HCA, SLIDING, Geometry
from ds4_backend.ops.base import Batch, Span
from ds4_backend.ops.kernels.bodies import LATE, MOST_SPLITS
from ds4_backend.ops.rope import angles, frequencies

HEADER = 32
KINDS = (SLIDING, CSA, HCA)
SPLIT_ROWS = 32
"""Rows of a split of decode attention at least."""
SPLIT_STEP = 4
"""They come so many at a time, as far as there may be more; the last ones are empty, and weigh nothing."""
SCORE_BLOCKS = 1056
"""Threadgroups of a scoring launch at most: eight for each of 132 processors."""
SCORE_STEP = 8
"""They come so many at a time, so that a grid serves a thousand tokens of context."""
SCORE_ROUNDING = 2048

Ints = NDArray[np.int32]


@dataclass
class Splits:
    """How attention of one layer kind is cut: `count` splits of `rows` rows each."""

    count: int
    rows: int


@dataclass
class Plan:
    """The host's side of a step: what the launches' grids and shapes need."""

    tokens: int
    late: bool
    """Whether all spans are short enough to be appended before anybody reads."""
    selecting: bool
    score_stride: int
    score_blocks: int
    closing: dict[int, int]
    """Rows that close, by ratio."""
    splits: dict[int, Splits]
    array: Ints = field(repr=False)


class Planner:
    """Makes plans for one network."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._page_tables: dict[int, tuple[tuple[int, ...], Ints]] = {}
        self.tables = {ratio: frequencies(geometry, ratio) for ratio in KINDS}

    def plan(self, batch: Batch) -> Plan:
        """All integers and rotations of a batch."""
        g, spans, tokens = self.geometry, batch.spans, len(batch.ids)
        positions, counts = batch.positions, [s.count for s in spans]
        visible = max(s.start + s.count for s in spans)
        selecting = visible // CSA > g.attention_indexer_top_k
        late = max(counts) <= LATE
        parts = _Parts()
        numbers = np.repeat(np.arange(len(spans), dtype=np.int32), counts)
        begins = np.cumsum([0, *counts[:-1]])
        tables = np.cumsum([0, *(len(s.pages) for s in spans[:-1])])
        rows = [(s.slot, s.start, b, t, s.count) for s, b, t in zip(spans, begins, tables, strict=True)]
        parts.add(2, np.stack([numbers, positions], 1))
        parts.add(3, np.array(rows))
        parts.add(4, self._turns(positions, SLIDING))
        parts.add(5, self._turns(positions, CSA))
        parts.add(6, np.concatenate([self._table(s) for s in spans]))
        closing = {ratio: self._closing(parts, batch, ratio, at) for ratio, at in ((CSA, 7), (HCA, 10))}
        parts.add(13, batch.ids)
        splits = self._splits(visible, selecting, tokens)
        blocks = min(_whole(visible // CSA, 32 * SCORE_STEP) // 32, max(1, SCORE_BLOCKS // tokens))
        stride = _whole(visible // CSA, SCORE_ROUNDING)
        for at, value in ((0, tokens), (1, len(spans)), (14, selecting), (15, stride), (24, late), (25, blocks)):
            parts.header[at] = value
        for number, ratio in enumerate(KINDS):
            parts.header[16 + number], parts.header[20 + number] = splits[ratio].count, splits[ratio].rows
        return Plan(tokens, late, selecting, stride, blocks, closing, splits, parts.array())

    def _table(self, span: Span) -> Ints:
        """A page table as an array, made anew only when it changed: at a million tokens it has 8192 entries."""
        kept = self._page_tables.get(span.slot)
        if kept is None or kept[0] != span.pages:
            kept = self._page_tables[span.slot] = (span.pages, np.asarray(span.pages, np.int32))
        return kept[1]

    def _turns(self, positions: Ints, ratio: int) -> Ints:
        """cos and sin of every pair, [n, R/2, 2] as the bits of float32."""
        radians = angles(positions, self.tables[ratio])
        return np.stack([np.cos(radians), np.sin(radians)], -1).astype(np.float32).view(np.int32)

    def _closing(self, parts: _Parts, batch: Batch, ratio: int, at: int) -> int:
        """The rows that this step closes, as (span, row), and the turns of their windows' first tokens."""
        rows = [
            (number, row)
            for number, s in enumerate(batch.spans)
            for row in range(s.start // ratio, (s.start + s.count) // ratio)
        ]
        listed = np.array(rows, np.int32).reshape(-1, 2)
        parts.add(at, listed)
        parts.header[at + 1] = len(listed)
        parts.add(at + 2, self._turns(listed[:, 1] * ratio, ratio) if rows else listed)
        return len(listed)

    def _splits(self, visible: int, selecting: bool, tokens: int) -> dict[int, Splits]:
        g = self.geometry
        window = g.attention_sliding_window
        far = {SLIDING: 0, CSA: g.attention_indexer_top_k if selecting else visible // CSA, HCA: visible // HCA}
        splits = {}
        for ratio, rows in far.items():
            most = max(1, MOST_SPLITS // tokens)
            each = -(-max(SPLIT_ROWS, -(-(window + rows) // most)) // 16) * 16
            count = -(-(window + rows) // each)
            splits[ratio] = Splits(max(count, min(_whole(count, SPLIT_STEP), most)), each)
        return splits


def _whole(count: int, unit: int) -> int:
    """At least one unit."""
    return max(-(-count // unit), 1) * unit


class _Parts:
    """The array under construction: a header of offsets and counts, then the parts."""

    def __init__(self) -> None:
        self.header = np.zeros(HEADER, np.int32)
        self._parts: list[Ints] = []
        self._length = HEADER

    def add(self, at: int, values: NDArray[Any]) -> None:
        """Put values at the end, and their offset into the header."""
        flat = np.asarray(values, np.int32).reshape(-1)
        self.header[at] = self._length
        self._parts.append(flat)
        self._length += len(flat)

    def array(self) -> Ints:
        return np.concatenate([self.header, *self._parts])
