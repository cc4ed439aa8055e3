"""What one forward pass prepares once: rotations per layer kind, and each span's view of the pools."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import CSA, SLIDING, Geometry
from ds4_backend.ops.base import Batch, Span
from ds4_backend.ops.numpy.arithmetic import Complex, rotation
from ds4_backend.ops.numpy.state import NumpyState
from ds4_backend.ops.rope import angles, frequencies

Float = NDArray[np.float32]


@dataclass
class Rotations:
    """Frequency tables of one network: `tables[False]` for window-only layers, `tables[True]` for compressed ones."""

    geometry: Geometry
    tables: dict[bool, Float] = field(init=False)

    def __post_init__(self) -> None:
        self.tables = {ratio != SLIDING: frequencies(self.geometry, ratio) for ratio in (SLIDING, CSA)}

    def at(self, positions: NDArray[np.int32], ratio: int) -> Complex:
        """Rotation of each position, complex64 [len(positions), R/2]."""
        return rotation(angles(positions, self.tables[ratio != SLIDING]))


@dataclass
class Segment:
    """One span on the flat axis: tokens `begin` to `begin + span.count`."""

    span: Span
    begin: int
    _visible: dict[int, NDArray[np.int32]] = field(default_factory=dict)

    @property
    def tokens(self) -> slice:
        return slice(self.begin, self.begin + self.span.count)

    @cached_property
    def first_page(self) -> int | None:
        """The first page if the page table is one contiguous run, so that its rows can be read as a view."""
        pages = self.span.pages
        if pages and pages[-1] - pages[0] == len(pages) - 1 and all(b - a == 1 for a, b in pairwise(pages)):
            return pages[0]
        return None

    def visible(self, ratio: int) -> NDArray[np.int32]:
        """How many compressed rows of this ratio each token sees, [count]."""
        if ratio not in self._visible:
            start, end = self.span.start, self.span.start + self.span.count
            self._visible[ratio] = np.arange(start + 1, end + 1, dtype=np.int32) // ratio
        return self._visible[ratio]

    def rows(self, pool: Float, count: int) -> Float:
        """The first `count` rows of this conversation in a pool [pages, rows, width]; a view if its pages are a run."""
        per_page, width = pool.shape[1:]
        used = -(-count // per_page)
        if self.first_page is not None:
            return pool[self.first_page : self.first_page + used].reshape(-1, width)[:count]
        return pool[list(self.span.pages[:used])].reshape(-1, width)[:count]

    def store(self, pool: Float, first: int, rows: Float) -> None:
        """Put rows number `first` onward of this conversation into a pool."""
        per_page, width = pool.shape[1:]
        if self.first_page is not None:
            flat = pool[self.first_page : self.first_page + len(self.span.pages)].reshape(-1, width)
            flat[first : first + len(rows)] = rows
            return
        index = np.arange(first, first + len(rows))
        pages = np.asarray(self.span.pages, np.intp)
        pool[pages[index // per_page], index % per_page] = rows


class Step:
    """The shared part of one forward pass."""

    def __init__(self, batch: Batch, state: NumpyState, rotations: Rotations) -> None:
        self.ids, self.state, self.rotations = batch.ids, state, rotations
        self.positions = batch.positions
        self.segments: list[Segment] = []
        begin = 0
        for span in batch.spans:
            self.segments.append(Segment(span, begin))
            begin += span.count
        self._turns: dict[bool, tuple[Complex, Complex]] = {}
        self._phases: dict[int, NDArray[np.int32]] = {}
        self._row_turns: dict[tuple[int, int, int], Complex] = {}

    def turn(self, ratio: int) -> Complex:
        """Rotation of every token for layers of this ratio, [T, R/2]."""
        return self._both_turns(ratio)[0]

    def turn_back(self, ratio: int) -> Complex:
        """The reverse of `turn`."""
        return self._both_turns(ratio)[1]

    def _both_turns(self, ratio: int) -> tuple[Complex, Complex]:
        kind = ratio != SLIDING
        if kind not in self._turns:
            turn = self.rotations.at(self.positions, ratio)
            self._turns[kind] = turn, turn.conj()
        return self._turns[kind]

    def phases(self, ratio: int) -> NDArray[np.int32]:
        """Place of every token in its window, [T]."""
        if ratio not in self._phases:
            self._phases[ratio] = self.positions % ratio
        return self._phases[ratio]

    def row_turn(self, ratio: int, first: int, count: int) -> Complex:
        """Rotation of compressed rows `first` onward: a row stands at its window's first token. [count, R/2]"""
        key = (ratio, first, count)
        if key not in self._row_turns:
            positions = np.arange(first * ratio, (first + count) * ratio, ratio, dtype=np.int32)
            self._row_turns[key] = self.rotations.at(positions, ratio)
        return self._row_turns[key]
