"""`MlxOps`: the ops contract in stock MLX operations. The formulas live in this package's other modules."""

from __future__ import annotations

import os
from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import CSA, HCA, SLIDING, Geometry
from ds4_backend.gguf.reader import Tensor
from ds4_backend.ops import simulate
from ds4_backend.ops.base import Batch, Compressor, Experts, Head, HyperConnection, Ops, Router, State
from ds4_backend.ops.mlx import attention, compress, hyper, indexer, rounding
from ds4_backend.ops.mlx.arithmetic import rotate
from ds4_backend.ops.mlx.attention import Compressed
from ds4_backend.ops.mlx.experts import mixture, route
from ds4_backend.ops.mlx.linear import Blocks, load_blocks, multiply, take_rows
from ds4_backend.ops.mlx.state import MlxState
from ds4_backend.ops.mlx.step import Segment, Step, rotation_tables


class MlxOps(Ops):
    """Ops for any MLX device, in float32. Use it from one thread: MLX's graph is not shared between threads.

    Lazy but for two places a layer, which bound memory: `attend` evaluates what it wrote to the state, `experts` reads
    the chosen ids.
    """

    name = "mlx"

    def __init__(self, geometry: Geometry, *, cache_simulation: bool) -> None:
        super().__init__(geometry, cache_simulation=cache_simulation)
        if cache_simulation:
            simulate.check_widths(geometry)
        # MLX reads this at its first product; float32 products would keep 10 bits of mantissa on recent GPUs
        os.environ.setdefault("MLX_ENABLE_TF32", "0")
        self.epsilon = geometry.attention_layer_norm_rms_epsilon
        self.tables = rotation_tables(geometry)

    # Weights

    def matrix(self, tensor: Tensor) -> Blocks:
        return load_blocks(tensor)

    def vector(self, tensor: Tensor) -> mx.array:
        plain = tensor.array() if tensor.format.name.startswith("I") else tensor.dequantize()
        return mx.array(plain)

    def stack(self, tensors: Sequence[Tensor]) -> tuple[Blocks, ...]:
        return tuple(load_blocks(t) for t in tensors)

    # One forward pass

    def new_state(self) -> MlxState:
        return MlxState(self.geometry)

    def begin(self, batch: Batch, state: State) -> Step:
        assert isinstance(state, MlxState)
        return Step(batch, state, self.tables)

    def embed(self, table: Blocks, step: Step) -> mx.array:
        tokens = take_rows(table, step.ids)
        return mx.repeat(tokens[:, None], self.geometry.hyper_connection_count, axis=1)

    def hc_pre(
        self, streams: mx.array, hc: HyperConnection, norm: mx.array
    ) -> tuple[mx.array, tuple[mx.array, mx.array]]:
        inputs, outputs, mixing = hyper.gates(streams, hc, self.geometry)
        return mx.fast.rms_norm(hyper.collapse(streams, inputs), norm, self.epsilon), (outputs, mixing)

    def hc_post(self, streams: mx.array, y: mx.array, mix: tuple[mx.array, mx.array]) -> mx.array:
        return hyper.spread(streams, y, *mix)

    def project(self, x: mx.array, weights: tuple[Blocks, ...]) -> tuple[mx.array, ...]:
        return tuple(multiply(x, w) for w in weights)

    def queries(self, low: mx.array, norm: mx.array, q_b: Blocks, ratio: int, step: Step) -> tuple[mx.array, mx.array]:
        low = mx.fast.rms_norm(low, norm, self.epsilon)
        heads = multiply(low, q_b).reshape(low.shape[0], -1, self.geometry.attention_key_length)
        return low, rotate(mx.fast.rms_norm(heads, None, self.epsilon), step.turn(ratio))

    def window_rows(self, kv: mx.array, norm: mx.array, ratio: int, step: Step) -> mx.array:
        return self._simulated(rotate(mx.fast.rms_norm(kv, norm, self.epsilon), step.turn(ratio)))

    def compress(
        self, values: mx.array, gates: mx.array, compressor: Compressor, ratio: int, ordinal: int, kind: str, step: Step
    ) -> None:
        pairs = mx.stack([values, gates + compressor.ape[mx.array(step.positions % ratio)]])  # [2, T, c*width]
        for s in step.segments:
            carried = step.state.tail(kind, ordinal, s.span.slot, s.span.start)
            tokens = mx.concatenate([carried, pairs[:, s.tokens]], axis=1)
            step.state.keep_tail(kind, ordinal, s.span.slot, s.end, tokens)
            first, last = s.span.start // ratio, s.end // ratio
            if last > first:
                oldest = s.span.start - carried.shape[1]
                rows = compress.pooled_rows(tokens[:, : last * ratio - oldest], first, ratio)
                rows = mx.fast.rms_norm(rows, compressor.norm, self.epsilon)
                rows = rotate(rows, step.row_turn(ratio, first, last - first))
                rounded = self._simulated_indexer(rows) if kind == "indexer" else self._simulated(rows)
                step.state.store(kind, ordinal, s.span.pages, first, rounded)

    def select(self, low: mx.array, q_b: Blocks, weights: mx.array, ordinal: int, step: Step) -> list[mx.array | None]:
        k = self.geometry.attention_indexer_top_k
        if all(s.end // CSA <= k for s in step.segments):
            return [None] * len(step.segments)
        heads = multiply(low, q_b).reshape(low.shape[0], self.geometry.attention_indexer_head_count, -1)
        heads = self._simulated_indexer(rotate(heads, step.turn(CSA)))
        weights = weights * (heads.shape[1] * heads.shape[2]) ** -0.5
        return [self._choose(s, heads, weights, ordinal, step) if s.end // CSA > k else None for s in step.segments]

    def attend(
        self,
        q: mx.array,
        rows: mx.array,
        sinks: mx.array,
        layer: int,
        ordinal: int,
        selection: list[mx.array | None] | None,
        step: Step,
    ) -> mx.array:
        ratio, size = self.geometry.ratio(layer), self.geometry.attention_sliding_window
        parts = []
        for i, s in enumerate(step.segments):
            carried = step.state.tail("window", layer, s.span.slot, s.span.start)
            window = mx.concatenate([carried, rows[s.tokens]])
            step.state.keep_tail("window", layer, s.span.slot, s.end, window)
            compressed = self._compressed(s, ratio, ordinal, None if selection is None else selection[i], step)
            parts.append(attention.attend(q[s.tokens], window, size, compressed, sinks))
        out = rotate(mx.concatenate(parts), step.turn(ratio).back())
        step.state.settle(out)
        return out

    def grouped_output(self, heads: mx.array, a: Blocks, b: Blocks) -> mx.array:
        groups = self.geometry.attention_output_group_count
        per_group = heads.reshape(heads.shape[0], groups, -1)  # [T, G, H/G*d]
        rank = a.rows // groups
        low = [multiply(per_group[:, i], a, i * rank, (i + 1) * rank) for i in range(groups)]
        return multiply(mx.concatenate(low, axis=1), b)

    def route(self, x: mx.array, router: Router, step: Step) -> tuple[mx.array, mx.array]:
        return route(x, router, step.ids, self.geometry.expert_used_count, self.geometry.expert_weights_scale)

    def experts(self, x: mx.array, chosen: mx.array, weights: mx.array, experts: Experts) -> mx.array:
        return mixture(x, chosen, weights, experts)

    def head(self, streams: mx.array, wanted: NDArray[np.int32], head: Head) -> mx.array:
        streams = streams[mx.array(wanted)]
        gates = mx.sigmoid(hyper.mixes(streams, head.fn, self.epsilon) * head.scale + head.base)
        h = hyper.collapse(streams, gates + self.geometry.hyper_connection_epsilon)
        return multiply(mx.fast.rms_norm(h, head.norm, self.epsilon), head.output)

    def to_host(self, array: mx.array) -> NDArray[np.float32]:
        return np.array(array.astype(mx.float32))

    # Parts of attention

    def _simulated(self, rows: mx.array) -> mx.array:
        return rounding.round_rows(rows, self.geometry.rope_dimension_count) if self.cache_simulation else rows

    def _simulated_indexer(self, rows: mx.array) -> mx.array:
        return rounding.round_indexer(rows) if self.cache_simulation else rows

    def _choose(self, s: Segment, heads: mx.array, weights: mx.array, ordinal: int, step: Step) -> mx.array:
        """The indexer's rows for one span, [count, k]."""
        rows = step.state.pools["indexer"][ordinal].read(s.span.pages, s.end // CSA)
        k = self.geometry.attention_indexer_top_k
        return indexer.choose(heads[s.tokens], weights[s.tokens], rows, s.visible(CSA), k)

    def _compressed(
        self, s: Segment, ratio: int, ordinal: int, chosen: mx.array | None, step: Step
    ) -> Compressed | None:
        """A span's compressed rows, or None where it has none yet."""
        if ratio == SLIDING or s.end < ratio:
            return None
        pool = step.state.pools["hca" if ratio == HCA else "csa"][ordinal]
        return Compressed(pool.read(s.span.pages, s.end // ratio), s.visible(ratio), chosen)
