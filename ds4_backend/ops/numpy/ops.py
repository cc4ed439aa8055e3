"""`NumpyOps`: the ops contract in float32 numpy. The formulas live in this package's other modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import CSA, HCA, SLIDING, Geometry
from ds4_backend.gguf.reader import Tensor
from ds4_backend.ops import simulate
from ds4_backend.ops.base import Batch, Compressor, Experts, Head, HyperConnection, Ops, Router, State
from ds4_backend.ops.numpy import attention, compress, hyper, indexer
from ds4_backend.ops.numpy.arithmetic import linear, rms_norm, rms_scale, rotate, sigmoid
from ds4_backend.ops.numpy.attention import Compressed
from ds4_backend.ops.numpy.experts import Packed, mixture, pack, route
from ds4_backend.ops.numpy.state import NumpyState
from ds4_backend.ops.numpy.step import Rotations, Segment, Step
from ds4_backend.ops.numpy.store import Store

Float = NDArray[np.float32]


class Stack(NamedTuple):
    """Matrices of one input, rows stacked: weight [sum of outs, in], and each one's share of the rows."""

    weight: Float
    shares: tuple[slice, ...]


class NumpyOps(Ops):
    """Reference ops.

    Set `observer` to see what enters each routed expert: it is called with the layer's index, `gate_up` or `down`,
    expert ids [R] and rows [R, width]. This is how importance is collected.
    """

    name = "numpy"

    def __init__(self, geometry: Geometry, *, cache_simulation: bool) -> None:
        super().__init__(geometry, cache_simulation=cache_simulation)
        if cache_simulation:
            simulate.check_widths(geometry)
        self.epsilon = geometry.attention_layer_norm_rms_epsilon
        self.rotations = Rotations(geometry)
        self.store = Store()
        self.observer: Callable[[int, str, NDArray[np.intp], Float], None] | None = None

    # Weights

    def matrix(self, tensor: Tensor) -> Float:
        return self.store.by_columns(tensor.dequantize())

    def table(self, tensor: Tensor) -> Float:
        return tensor.dequantize()

    def vector(self, tensor: Tensor) -> NDArray[np.generic]:
        plain = tensor.array() if tensor.format.name.startswith("I") else tensor.dequantize()
        return np.ascontiguousarray(plain)

    def stack(self, tensors: Sequence[Tensor]) -> Stack:
        parts = [t.dequantize() for t in tensors]
        ends = [0, *accumulate(len(part) for part in parts)]
        shares = tuple(slice(low, high) for low, high in pairwise(ends))
        return Stack(self.store.by_columns(np.concatenate(parts)), shares)

    def hyper_connection(self, fn: Tensor, scale: Tensor, base: Tensor) -> HyperConnection:
        plain = super().hyper_connection(fn, scale, base)
        return replace(plain, scale=hyper.expand_scale(plain.scale, self.geometry.hyper_connection_count))

    def expert_weights(self, layer: int, clamp: float, tensors: Sequence[Tensor]) -> Packed:
        gate, up, down, *shared = (tensor.dequantize() for tensor in tensors)
        return pack(Experts(layer, gate, up, down, shared[0], shared[1], shared[2], clamp), self.store)

    # One forward pass

    def new_state(self) -> NumpyState:
        return NumpyState(self.geometry)

    def begin(self, batch: Batch, state: State) -> Step:
        assert isinstance(state, NumpyState)
        return Step(batch, state, self.rotations)

    def embed(self, table: Float, step: Step) -> Float:
        return np.repeat(table[step.ids][:, None, :], self.geometry.hyper_connection_count, axis=1)

    def hc_pre(self, streams: Float, hc: HyperConnection, norm: Float) -> tuple[Float, Float]:
        inputs, mix = hyper.gates(streams, hc, self.geometry)
        return rms_norm(hyper.collapse(streams, inputs), norm, self.epsilon), mix

    def hc_post(self, streams: Float, y: Float, mix: Float) -> Float:
        return hyper.spread(streams, y, mix)

    def project(self, x: Float, weights: Stack) -> tuple[Float, ...]:
        y = linear(x, weights.weight)
        return tuple(y[:, share] for share in weights.shares)

    def queries(self, low: Float, norm: Float, q_b: Float, ratio: int, step: Step) -> tuple[Float, Float]:
        low = rms_norm(low, norm, self.epsilon)
        heads = linear(low, q_b).reshape(len(low), -1, self.geometry.attention_key_length)
        heads *= rms_scale(heads, self.epsilon)
        rotate(heads, step.turn(ratio)[:, None, :])
        return low, heads

    def window_rows(self, kv: Float, norm: Float, ratio: int, step: Step) -> Float:
        rows = rms_norm(kv, norm, self.epsilon)
        rotate(rows, step.turn(ratio))
        return self._simulated(rows)

    def compress(
        self, values: Float, gates: Float, compressor: Compressor, ratio: int, ordinal: int, kind: str, step: Step
    ) -> None:
        for segment in step.segments:
            ring = step.state.lanes[kind][ordinal][segment.span.slot]
            rows = self._closed(segment, values, gates, compressor.ape, ring, ratio, step)
            if rows is None:
                continue
            first = segment.span.start // ratio
            rows = rms_norm(rows, compressor.norm, self.epsilon)
            rotate(rows, step.row_turn(ratio, first, len(rows)))
            rounded = self._simulated_indexer(rows) if kind == "indexer" else self._simulated(rows)
            segment.store(step.state.pools[kind][ordinal], first, rounded)

    def select(self, low: Float, q_b: Float, weights: Float, ordinal: int, step: Step) -> list[NDArray[np.intp] | None]:
        g = self.geometry
        needy = [s for s in step.segments if (s.span.start + s.span.count) // CSA > g.attention_indexer_top_k]
        if not needy:
            return [None] * len(step.segments)
        heads = linear(low, q_b).reshape(len(low), g.attention_indexer_head_count, -1)
        rotate(heads, step.turn(CSA)[:, None, :])
        heads = self._simulated_indexer(heads)
        weights = weights * np.float32((heads.shape[1] * heads.shape[2]) ** -0.5)
        pool = step.state.pools["indexer"][ordinal]
        return [self._choose(s, heads, weights, pool, step) if s in needy else None for s in step.segments]

    def attend(
        self,
        q: Float,
        rows: Float,
        sinks: Float,
        layer: int,
        ordinal: int,
        selection: list[NDArray[np.intp] | None] | None,
        step: Step,
    ) -> Float:
        ratio = self.geometry.ratio(layer)
        parts = []
        for i, s in enumerate(step.segments):
            chosen = selection[i] if selection is not None else None
            compressed = self._compressed(s, ratio, ordinal, chosen, step)
            ring = step.state.window[layer][s.span.slot]
            parts.append(self._attend_span(s, q[s.tokens], rows[s.tokens], ring, compressed, sinks))
        out = parts[0] if len(parts) == 1 else np.concatenate(parts)
        rotate(out, step.turn_back(ratio)[:, None, :])
        return out

    def grouped_output(self, heads: Float, a: Float, b: Float) -> Float:
        groups = self.geometry.attention_output_group_count
        per_group = heads.reshape(len(heads), groups, -1)  # [T, G, H/G*d]
        matrices = a.T.reshape(per_group.shape[2], groups, -1)  # [H/G*d, G, rank]
        low = np.empty((len(heads), groups, matrices.shape[2]), np.float32)
        np.matmul(per_group.swapaxes(0, 1), matrices.swapaxes(0, 1), out=low.swapaxes(0, 1))
        return linear(low.reshape(len(heads), -1), b)

    def route(self, x: Float, router: Router, step: Step) -> tuple[NDArray[np.intp], Float]:
        return route(x, router, step.ids, self.geometry.expert_used_count, self.geometry.expert_weights_scale)

    def experts(self, x: Float, chosen: NDArray[np.intp], weights: Float, experts: Experts | Packed) -> Float:
        observe = None if self.observer is None else partial(self.observer, experts.layer)
        packed = experts if isinstance(experts, Packed) else pack(experts, Store())
        return mixture(x, chosen, weights, packed, observe)

    def head(self, streams: Float, wanted: NDArray[np.int32], head: Head) -> Float:
        streams = streams[wanted]
        gates = sigmoid(hyper.mixes(streams, head.fn, self.epsilon) * head.scale + head.base)
        gates += np.float32(self.geometry.hyper_connection_epsilon)
        return linear(rms_norm(hyper.collapse(streams, gates), head.norm, self.epsilon), head.output)

    def to_host(self, array: Float) -> Float:
        return array

    # Parts of attention

    def _closed(
        self, s: Segment, values: Float, gates: Float, ape: Float, ring: Float, ratio: int, step: Step
    ) -> Float | None:
        """Pooled rows of the windows that a span closes; `ring` is brought up to date."""
        if s.span.count == 1:
            start = s.span.start
            return compress.window_of_one(values[s.begin], gates[s.begin], ape[start % ratio], ring, start, ratio)
        pairs = np.empty((2, s.span.count, values.shape[1]), np.float32)
        pairs[0] = values[s.tokens]
        np.add(gates[s.tokens], ape[step.phases(ratio)[s.tokens]], out=pairs[1])
        return compress.closed_windows(pairs, ring, s, ratio)

    def _simulated(self, rows: Float) -> Float:
        return simulate.round_rows(rows, self.geometry.rope_dimension_count) if self.cache_simulation else rows

    def _simulated_indexer(self, rows: Float) -> Float:
        return simulate.round_indexer(rows) if self.cache_simulation else rows

    def _choose(self, s: Segment, heads: Float, weights: Float, pool: Float, step: Step) -> NDArray[np.intp]:
        """The indexer's rows for one span, [count, k]."""
        visible = s.visible(CSA)
        values = indexer.scores(heads[s.tokens], weights[s.tokens], s.rows(pool, int(visible[-1])))
        return indexer.top_k(values, visible, self.geometry.attention_indexer_top_k)

    def _compressed(
        self, s: Segment, ratio: int, ordinal: int, chosen: NDArray[np.intp] | None, step: Step
    ) -> Compressed | None:
        """A span's compressed rows, or None where it has none yet."""
        if ratio == SLIDING or s.span.start + s.span.count < ratio:
            return None
        visible = s.visible(ratio)
        pool = step.state.pools["hca" if ratio == HCA else "csa"][ordinal]
        return Compressed(s.rows(pool, int(visible[-1])), visible, chosen)

    def _attend_span(
        self, s: Segment, q: Float, rows: Float, ring: Float, compressed: Compressed | None, sinks: Float
    ) -> Float:
        size, start, count = len(ring), s.span.start, s.span.count
        if count == 1:
            ring[start % size] = rows[0]
            return attention.decode(q[0], ring[: min(start + 1, size)], compressed, sinks)[None]
        before = min(start, size - 1)
        older = ring[np.arange(start - before, start) % size]
        kept = min(count, size)
        ring[np.arange(start + count - kept, start + count) % size] = rows[count - kept :]
        return attention.prefill(q, np.concatenate([older, rows]), before, size, compressed, sinks)
