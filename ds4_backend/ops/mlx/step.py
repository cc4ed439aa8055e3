"""What one forward pass prepares once: token ids, rotations per layer kind, and where each span lies."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import SLIDING, Geometry
from ds4_backend.ops.base import Batch, Span
from ds4_backend.ops.mlx.arithmetic import Turn, turn_by
from ds4_backend.ops.mlx.state import MlxState
from ds4_backend.ops.rope import angles, frequencies


@dataclass(frozen=True, slots=True)
class Segment:
    """One span on the flat axis: tokens `begin` to `begin + span.count`."""

    span: Span
    begin: int

    @property
    def tokens(self) -> slice:
        return slice(self.begin, self.begin + self.span.count)

    @property
    def end(self) -> int:
        """Tokens of the conversation after this step."""
        return self.span.start + self.span.count

    def visible(self, ratio: int) -> mx.array:
        """How many compressed rows each token sees, int32 [count]."""
        return mx.arange(self.span.start + 1, self.end + 1) // ratio


class Step:
    """The shared part of one forward pass."""

    def __init__(self, batch: Batch, state: MlxState, tables: dict[bool, NDArray[np.float32]]) -> None:
        self.state, self.tables = state, tables
        self.ids = mx.array(batch.ids)
        self.positions = batch.positions
        begins = np.cumsum([0, *(s.count for s in batch.spans)]).tolist()
        self.segments = [Segment(span, begin) for span, begin in zip(batch.spans, begins, strict=False)]
        self._turns: dict[bool, Turn] = {}
        self._row_turns: dict[tuple[int, int, int], Turn] = {}

    def turn(self, ratio: int) -> Turn:
        """Rotation of every token for layers of this ratio."""
        kind = ratio != SLIDING
        if kind not in self._turns:
            self._turns[kind] = turn_by(angles(self.positions, self.tables[kind]))
        return self._turns[kind]

    def row_turn(self, ratio: int, first: int, count: int) -> Turn:
        """Rotation of compressed rows `first` onward: a row stands at its window's first token."""
        key = (ratio, first, count)
        if key not in self._row_turns:
            positions = np.arange(first, first + count, dtype=np.int32) * ratio
            self._row_turns[key] = turn_by(angles(positions, self.tables[True]))
        return self._row_turns[key]


def rotation_tables(g: Geometry) -> dict[bool, NDArray[np.float32]]:
    """Frequencies of window-only layers (False) and of compressed ones (True)."""
    return {kind: frequencies(g, int(kind)) for kind in (False, True)}
