"""The contract between the network and a device: about a dozen fused ops, and the state they keep.

`model/` calls these and nothing else. Everything called `Array`, `Matrix` or `Mix` here is opaque to it: the ops
decide dtype, layout, laziness and what is fused (a device may put off `hc_post` and run it inside the next `hc_pre`).
Positions and counts are host integers; nobody branches on an array.

One forward pass runs a `Batch`: the tokens of one or more conversations, flat on one axis of length T. Ops on tokens
ignore who owns them; `compress`, `select` and `attend` read the batch's spans.

State (see `State`): rows live in pools, one per row class, in pages of 128 tokens. A conversation is a page table,
which the model keeps as host integers, plus one *slot*: rings that hold what is still open.

Shape letters: T tokens, n streams, D embedding, H heads, d head width, R rotary channels, r query rank, E experts,
k experts used, F expert width, w indexer width, W window. Formula numbers are those of docs/model.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.reader import Tensor

Array = Any
"""An array of the device; opaque to the model."""
Matrix = Any
"""A weight as the device holds it, usually the file's raw blocks; opaque to the model."""
Mix = Any
"""What `hc_pre` leaves for `hc_post`: the output gates and the stream mixing matrix of every token."""
Rows = dict[str, NDArray[Any]]
"""Exported state: named host arrays, see `State`."""


@dataclass(frozen=True, slots=True)
class Span:
    """One conversation's share of a batch: tokens at positions `start` to `start + count - 1`.

    `pages` is its page table and covers every position below `start + count`; `slot` is its set of rings.
    """

    slot: int
    pages: tuple[int, ...]
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The tokens of one forward pass: the spans' tokens one after another. `ids` is int32 [T]."""

    ids: NDArray[np.int32]
    spans: tuple[Span, ...]

    @property
    def positions(self) -> NDArray[np.int32]:
        """Absolute position of every token, int32 [T]."""
        return np.concatenate([np.arange(s.start, s.start + s.count, dtype=np.int32) for s in self.spans])


@dataclass(frozen=True, slots=True)
class HyperConnection:
    """Parameters of one hyper-connection: fn [n(n+2), n*D], scale [3], base [n(n+2)]."""

    fn: Matrix
    scale: Matrix
    base: Matrix


@dataclass(frozen=True, slots=True)
class Compressor:
    """Position bias [ratio, c*width] and norm [width] of one compressor; c is 2 for CSA, 1 for HCA."""

    ape: Matrix
    norm: Matrix


@dataclass(frozen=True, slots=True)
class Router:
    """Scores [E, D], and either the bias [E] of a scored layer or the table [V, k] of a hash-routed one."""

    gate: Matrix
    bias: Matrix | None
    table: Matrix | None


@dataclass(frozen=True, slots=True)
class Experts:
    """One layer's feed-forward weights. Routed gate/up [E, F, D] and down [E, D, F]; shared alike without E."""

    layer: int
    gate: Matrix
    up: Matrix
    down: Matrix
    shared_gate: Matrix
    shared_up: Matrix
    shared_down: Matrix
    clamp: float


@dataclass(frozen=True, slots=True)
class Head:
    """Stream collapse fn [n, n*D], base [n], scale [1]; norm [D]; output [V, D]."""

    fn: Matrix
    base: Matrix
    scale: Matrix
    norm: Matrix
    output: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Full pages as bytes, uint8 [P, bytes of a page]: rows of each pool by layer, `at` where a pool kind's begin and
    `row_nbytes` for each. The formats are those of `model.codec` with the cache simulation; `rows` decodes them."""

    raw: NDArray[np.uint8]
    at: Mapping[str, int]
    row_nbytes: Mapping[str, int]
    rows: Callable[[], Rows]


class State(ABC):
    """Pools and rings of one model, owned by its ops.

    Pools, one array per layer and row class, in pages of 128 tokens: `csa` [pages, 32, d], `indexer` [pages, 32, w],
    `hca` [pages, 1, d]. Row j of a page's CSA rows covers tokens 4j to 4j+3 of the page. Rings, per slot and layer: the
    last W window rows; the (value, gate) pairs of the last 8 tokens of both CSA compressors and of the last 128 tokens
    of the HCA compressors. Gates already hold the position bias. A ring may be longer: position p is at p mod R, and R
    is the ops' choice.

    A page that is not full belongs to one conversation alone.
    """

    @abstractmethod
    def reserve(self, pages: int, slots: int) -> None:
        """Make room for page numbers below `pages` and slots below `slots`; what is there stays."""

    @abstractmethod
    def copy_page(self, source: int, target: int) -> None:
        """Copy one page of every pool (a fork needs its own copy of an open page)."""

    @abstractmethod
    def copy_slot(self, source: int, target: int) -> None:
        """Copy every ring of one slot (a fork)."""

    @abstractmethod
    def export_pages(self, pages: Sequence[int]) -> Rows:
        """Rows of whole pages on the host: `csa` [P, CSA layers, 32, d], `indexer` [P, CSA layers, 32, w], `hca`
        [P, HCA layers, 1, d]."""

    @abstractmethod
    def import_pages(self, pages: Sequence[int], rows: Rows) -> None:
        """The reverse of `export_pages`, into these page numbers."""

    def import_packed(self, pages: Sequence[int], packed: Packed) -> None:
        """The same from stored bytes, which a device may take as they are."""
        self.import_pages(pages, packed.rows())

    @abstractmethod
    def export_tail(self, slot: int, page: int | None, length: int) -> Rows:
        """All that a resume at `length` tokens needs beside the full pages, and no more.

        Rows oldest first: `window` [layers, min(length, W), d]; `csa_lane` and `indexer_lane` [CSA layers, 2, m,
        2*width], (value, gate) pairs of the last m = min(length, 4 + length mod 4) tokens; `hca_lane` [HCA layers, 2,
        length mod 128, d]. If the open page, `page`, holds closed rows, also those: `csa`, `indexer` [CSA layers, rows,
        width].
        """

    @abstractmethod
    def import_tail(self, slot: int, page: int | None, length: int, rows: Rows) -> None:
        """The reverse of `export_tail`."""

    @property
    @abstractmethod
    def nbytes(self) -> int:
        """Bytes held by pools and rings."""


class Ops(ABC):
    """The fused ops of one network on one device."""

    name: str
    prefill_tokens: int = 128
    """The best chunk of a long prompt, in whole pages. On the CPU one page: results then do not depend on where in a
    prompt a resume starts."""

    def __init__(self, geometry: Geometry, *, cache_simulation: bool) -> None:
        self.geometry = geometry
        self.cache_simulation = cache_simulation

    # Weights -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def matrix(self, tensor: Tensor) -> Matrix:
        """A weight [out, in] or [E, out, in] to multiply with, in whatever blocks the file holds."""

    @abstractmethod
    def vector(self, tensor: Tensor) -> Matrix:
        """A small float tensor (norm, bias, sinks, position bias) or an int32 table, of any shape."""

    @abstractmethod
    def stack(self, tensors: Sequence[Tensor]) -> Matrix:
        """Several matrices that read the same input, for `project`."""

    def hyper_connection(self, fn: Tensor, scale: Tensor, base: Tensor) -> HyperConnection:
        """The parameters of one hyper-connection, in whatever form `hc_pre` wants them."""
        return HyperConnection(self.matrix(fn), self.vector(scale), self.vector(base))

    def table(self, tensor: Tensor) -> Matrix:
        """A weight [rows, width] of which single rows are looked up, for `embed`."""
        return self.matrix(tensor)

    def expert_weights(self, layer: int, clamp: float, tensors: Sequence[Tensor]) -> Any:
        """One layer's feed-forward weights, in whatever form `experts` wants them; tensors as `Experts` orders them."""
        gate, up, down, *shared = (self.matrix(tensor) for tensor in tensors)
        return Experts(layer, gate, up, down, shared[0], shared[1], shared[2], clamp)

    # One forward pass --------------------------------------------------------------------------------------------

    @abstractmethod
    def new_state(self) -> State:
        """Empty pools and rings."""

    @abstractmethod
    def begin(self, batch: Batch, state: State) -> Any:
        """Prepare what all layers share: positions, rope angles, page tables. The result is passed on as `step`."""

    @abstractmethod
    def embed(self, table: Matrix, step: Any) -> Array:
        """Streams X [T, n, D]: every stream starts as the token's embedding."""

    @abstractmethod
    def hc_pre(self, streams: Array, hc: HyperConnection, norm: Matrix) -> tuple[Array, Mix]:
        """Collapse the streams into a sub-layer's input: x [T, D], already normed, and the mix for `hc_post`."""

    @abstractmethod
    def hc_post(self, streams: Array, y: Array, mix: Mix) -> Array:
        """New streams: X'_k = post_k y + sum_j C_jk X_j (over the *row* index j of C)."""

    @abstractmethod
    def project(self, x: Array, weights: Matrix) -> tuple[Array, ...]:
        """x [T, D] through each matrix of a `stack`."""

    @abstractmethod
    def queries(self, low: Array, norm: Matrix, q_b: Matrix, ratio: int, step: Any) -> tuple[Array, Array]:
        """From the low-rank query [T, r]: the normed low-rank query, and heads [T, H, d], each normed and rotated."""

    @abstractmethod
    def window_rows(self, kv: Array, norm: Matrix, ratio: int, step: Any) -> Array:
        """Rows [T, d] of the window: normed, rotated, and rounded by the cache simulation when it is on."""

    @abstractmethod
    def compress(
        self, values: Array, gates: Array, compressor: Compressor, ratio: int, ordinal: int, kind: str, step: Any
    ) -> None:
        """Feed every token's (value, gate) [T, c*width] to a compressor; rows of closed windows go to the pool.

        `kind` is `csa`, `indexer` or `hca`; `ordinal` counts the layers of that ratio from 0. The bias
        `ape[p mod ratio]` is added to the gate here, once.
        """

    @abstractmethod
    def select(self, low: Array, q_b: Matrix, weights: Array, ordinal: int, step: Any) -> Any:
        """The indexer's choice of CSA rows for every token: the top-k of the visible ones, or all where they are fewer.

        `low` is the normed low-rank query [T, r], `weights` [T, index heads] as projected (unscaled). Ties go to the
        lower row. The result is opaque and only read by `attend`.
        """

    @abstractmethod
    def attend(
        self, q: Array, rows: Array, sinks: Matrix, layer: int, ordinal: int, selection: Any, step: Any
    ) -> Array:
        """Append the window rows, then attend over window and compressed rows with sinks: heads [T, H, d], rotated
        back to their token's position."""

    @abstractmethod
    def grouped_output(self, heads: Array, a: Matrix, b: Matrix) -> Array:
        """y [T, D] = B concat_g(A_g heads_g)."""

    @abstractmethod
    def route(self, x: Array, router: Router, step: Any) -> tuple[Array, Array]:
        """Expert ids [T, k] and weights [T, k], already scaled."""

    @abstractmethod
    def experts(self, x: Array, chosen: Array, weights: Array, experts: Any) -> Array:
        """y [T, D]: routed experts' weighted sum plus the shared expert."""

    @abstractmethod
    def head(self, streams: Array, wanted: NDArray[np.int32], head: Head) -> Array:
        """Logits [len(wanted), V] of the tokens at these places of the flat axis."""

    @abstractmethod
    def to_host(self, array: Array) -> NDArray[np.float32]:
        """Evaluate and bring to the host as float32."""

    def compute(self, batch: Batch, state: State, rows: int, work: Callable[[], Array]) -> NDArray[np.float32]:
        """What `work` gives, on the host: the whole pass of a batch through these ops, logits of `rows` of its tokens.

        Ops that can repeat a pass without going through it again may do so, and not call `work`.
        """
        return self.to_host(work())
