"""What the kernel ops hand to the model between launches: mostly work that is put off until it can be fused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from ds4_backend.ops.base import Compressor
from ds4_backend.ops.kernels.projections import Collapse, Job
from ds4_backend.ops.kernels.state import KernelState
from ds4_backend.ops.kernels.steps import Plan
from ds4_backend.ops.mlx.linear import Blocks


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Matrices that read the same input; outputs lie side by side, each at its column, rows `stride` apart."""

    matrices: tuple[Blocks, ...]
    columns: tuple[int, ...]
    stride: int

    def jobs(self) -> tuple[Job, ...]:
        """One job a matrix."""
        pairs = zip(self.matrices, self.columns, strict=True)
        return tuple(Job(m.format_name, m.rows, m.columns, at) for m, at in pairs)


class Columns(NamedTuple):
    """Some columns of a stack's output [T, stride]."""

    array: mx.array
    at: int
    width: int


class Grouped(NamedTuple):
    """Heads of a prefill as the product of their groups reads them: float16 [G, T, H / G * width]."""

    array: mx.array
    width: int

    @property
    def heads(self) -> mx.array:
        """[T, H, width]."""
        return self.array.swapaxes(0, 1).reshape(self.array.shape[1], -1, self.width)


@dataclass(eq=False)
class Collapsed:
    """One token's x that is not there yet: whoever reads it first makes it of the streams and their sums.

    That launch also gives `mixed`, the output gates and mixing, and `x` for others.
    """

    streams: mx.array
    sums: mx.array
    hc: HyperWeights
    norm: mx.array
    how: Collapse
    mixed: mx.array | None = None
    x: mx.array | None = None

    @property
    def inputs(self) -> list[mx.array]:
        """In the order of the kernel's names."""
        return [self.streams, self.sums, self.hc.scales, self.hc.base, self.norm]


class Normed(NamedTuple):
    """A prefill's x [T, D], and the same in float16 for its products."""

    x: mx.array
    half: mx.array


class Gates(NamedTuple):
    """What `hc_pre` leaves: the streams as they are now, and output gates and mixing [T, n + n * n]."""

    streams: mx.array
    mixed: mx.array | Collapsed

    def spread(self, y: mx.array) -> Spread:
        """The streams that y is still to be spread over."""
        mixed = self.mixed.mixed if isinstance(self.mixed, Collapsed) else self.mixed
        assert mixed is not None, "the sub-layer has read its input by now"
        return Spread(self.streams, y, mixed)


class Spread(NamedTuple):
    """Streams that a sub-layer's output is still to be spread over; the next hyper-connection does it."""

    streams: mx.array
    y: mx.array
    mixed: mx.array


class Routing(NamedTuple):
    """A router that runs with the experts."""

    router: Any
    step: Step


@dataclass(eq=False)
class HyperWeights:
    """A hyper-connection as its kernel wants it: raw bytes and their type, scales and base of at least 8 values."""

    fn: mx.array
    fn_type: str
    scales: mx.array
    base: mx.array
    owner: Any


@dataclass
class Layer:
    """One layer's attention, gathered from the calls before `attend`."""

    low: Columns
    low_norm: mx.array
    q_b: Blocks
    kv: Columns | None = None
    kv_norm: mx.array | None = None
    compressors: dict[str, tuple[Columns, Columns, Compressor]] = field(default_factory=dict)
    index_q_b: Blocks | None = None
    index_weights: Columns | None = None

    def query_matrices(self) -> list[Blocks]:
        """What reads the normed low-rank query."""
        return [self.q_b] if self.index_q_b is None else [self.q_b, self.index_q_b]


@dataclass
class Step:
    """The shared part of one forward pass, and the layer that is being gathered."""

    plan: Plan
    array: mx.array
    state: KernelState
    ids: mx.array
    layer: Layer | None = None

    @property
    def tokens(self) -> int:
        return self.plan.tokens

    def of_tokens(self, tokens: int) -> Step:
        """The same for products of another number of rows: the head's."""
        if tokens == self.tokens:
            return self
        header = np.zeros(8, np.int32)
        header[0] = tokens
        return Step(replace(self.plan, tokens=tokens), mx.array(header), self.state, self.ids)

    @property
    def gathered(self) -> Layer:
        assert self.layer is not None
        return self.layer
