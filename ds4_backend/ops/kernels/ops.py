"""`KernelOps`: the ops contract over fused kernels. What a launch can hold is put off until it is complete.

Decode of 1 to 8 tokens takes 11 launches a layer, 13 in a CSA layer that chooses rows (see docs/gpu.md); more tokens go
as prefill: matrices decoded to float16 and MLX's products, experts in tiles sorted by expert.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.reader import Tensor
from ds4_backend.ops import simulate
from ds4_backend.ops.base import Batch, Compressor, Experts, Head, HyperConnection, Ops, Router, State
from ds4_backend.ops.kernels import bodies
from ds4_backend.ops.kernels.attention import Attention
from ds4_backend.ops.kernels.handles import (
    Collapsed,
    Columns,
    Gates,
    Grouped,
    HyperWeights,
    Layer,
    Normed,
    Routing,
    Spread,
    Stack,
    Step,
)
from ds4_backend.ops.kernels.kernel import Launcher, type_name
from ds4_backend.ops.kernels.limits import check
from ds4_backend.ops.kernels.mixture import Mixture
from ds4_backend.ops.kernels.products import Products, make_stack, padded
from ds4_backend.ops.kernels.projections import MOST_TOKENS, Collapse
from ds4_backend.ops.kernels.state import KernelState
from ds4_backend.ops.kernels.steps import Planner
from ds4_backend.ops.mlx import hyper
from ds4_backend.ops.mlx.blocks import decode
from ds4_backend.ops.mlx.linear import Blocks, load_blocks

PACE_FEW, PACE_MANY = 4, 1
"""Layers between two hand-overs of queued work to the device, in decode and in prefill."""


class KernelOps(Ops):
    """Ops over a launcher. Use it from one thread.

    `without` names families of kernels (see `selftest.FAMILIES`) whose work stock MLX operations do instead.
    """

    prefill_tokens = 2048
    """Enough that every expert's weights are read for 48 tokens at once (Flash), not for one."""

    def __init__(
        self, geometry: Geometry, launcher: Launcher, *, cache_simulation: bool, without: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(geometry, cache_simulation=cache_simulation)
        check(geometry)
        if cache_simulation:
            simulate.check_widths(geometry)
        self.name, self.launcher = launcher.language, launcher
        self.without = without
        self.products = Products(launcher, plain="products" in without)
        self.attention = Attention(geometry, self.products, cache_simulation)
        self.mixture = Mixture(geometry, self.products, plain="experts" in without)
        self.planner = Planner(geometry)
        self._apart = not without & {"hyper", "products", "experts"}
        """Whether no family that hyper-connections meet is replaced by stock operations."""
        self._how = Collapse(
            geometry.hyper_connection_count, geometry.embedding_length, geometry.attention_layer_norm_rms_epsilon,
            geometry.hyper_connection_epsilon, geometry.hyper_connection_sinkhorn_iterations,
        )  # fmt: skip
        self._counters = mx.zeros((MOST_TOKENS,), mx.int32)
        """How many threadgroups of a token are done; zeros between launches."""
        self._current: Step
        self._since = 0

    # Weights

    def blocks(self, tensor: Tensor) -> Blocks:
        """A tensor's raw blocks on the device."""
        return load_blocks(tensor)

    def matrix(self, tensor: Tensor) -> Blocks:
        return self.blocks(tensor)

    def vector(self, tensor: Tensor) -> mx.array:
        if tensor.format.name.startswith("I"):
            return mx.array(tensor.array())
        values = tensor.dequantize()
        return padded(values) if values.size < 8 else mx.array(values)

    def stack(self, tensors: Sequence[Tensor]) -> Stack:
        return make_stack(tuple(self.blocks(t) for t in tensors))

    def hyper_connection(self, fn: Tensor, scale: Tensor, base: Tensor) -> HyperWeights:  # type: ignore[override]
        blocks = self.blocks(fn)
        return _hyper_weights(blocks, self.vector(scale), self.vector(base))

    # One forward pass

    def new_state(self) -> KernelState:
        return KernelState(self.geometry, self.launcher)

    def begin(self, batch: Batch, state: State) -> Step:
        assert isinstance(state, KernelState)
        plan = self.planner.plan(batch)
        self._current = Step(plan, mx.array(plan.array), state, mx.array(batch.ids))
        return self._current

    def embed(self, table: Blocks, step: Step) -> mx.array:
        g = self.geometry
        shape = (step.tokens, g.hyper_connection_count, g.embedding_length)
        inputs = [step.array, table.raw, *self.products.table(table)]
        groups = (-(-g.embedding_length // 256), step.tokens, 1)
        (streams,) = self.launcher.run(bodies.embed(g, table.format_name), inputs, [(shape, "float32")], groups)
        return streams

    def hc_pre(  # type: ignore[override]
        self, streams: mx.array | Spread, hc: HyperWeights, norm: mx.array
    ) -> tuple[mx.array | Normed | Collapsed, Gates]:
        if self._apart and self._current.tokens == 1:
            collapsed = self._spread(streams, hc, norm)
            return collapsed, Gates(collapsed.streams, collapsed)
        if self._apart and self.launcher.language == "cuda" and self._current.tokens <= MOST_TOKENS:
            now, mixed, x = self._spread_and_finish(streams, hc, norm)
            return x, Gates(now, mixed)
        now, mixed, x, *half = self._hyper(streams, hc, norm, self._current, narrow=self._narrow())
        return Normed(x, *half) if half else x, Gates(now, mixed)

    def hc_post(self, streams: mx.array | Spread, y: mx.array, mix: Gates) -> Spread:
        return mix.spread(y)

    def project(self, x: mx.array | Normed | Collapsed, weights: Stack) -> tuple[Columns, ...]:
        return self.products.stack(x.half if isinstance(x, Normed) else x, weights, self._current)

    def queries(self, low: Columns, norm: mx.array, q_b: Blocks, ratio: int, step: Step) -> tuple[None, None]:
        step.layer = Layer(low, norm, q_b)
        return None, None

    def window_rows(self, kv: Columns, norm: mx.array, ratio: int, step: Step) -> None:
        step.gathered.kv, step.gathered.kv_norm = kv, norm

    def compress(
        self, values: Columns, gates: Columns, compressor: Compressor, ratio: int, ordinal: int, kind: str, step: Step
    ) -> None:
        step.gathered.compressors[kind] = (values, gates, compressor)

    def select(self, low: None, q_b: Blocks, weights: Columns, ordinal: int, step: Step) -> None:
        step.gathered.index_q_b, step.gathered.index_weights = q_b, weights

    def attend(
        self, q: None, rows: None, sinks: mx.array, layer: int, ordinal: int, selection: None, step: Step
    ) -> mx.array | Grouped:
        return self.attention.heads(step, sinks, layer, ordinal)

    def grouped_output(self, heads: mx.array | Grouped, a: Blocks, b: Blocks) -> mx.array:
        step, groups = self._current, self.geometry.attention_output_group_count
        if isinstance(heads, Grouped):
            low = self.products.grouped(heads.array, a)
        else:
            low = self.products.one(heads.reshape(heads.shape[0], -1), a, step, groups)
        return self.products.one(low, b, step)

    def route(self, x: mx.array | Normed | Collapsed, router: Router, step: Step) -> tuple[Routing, None]:
        return Routing(router, step), None

    def experts(self, x: mx.array | Normed | Collapsed, chosen: Routing, weights: None, experts: Experts) -> mx.array:
        y = self.mixture.run(x, chosen.router, experts, chosen.step)
        self._hand_over(y, chosen.step)
        return y

    def head(self, streams: mx.array | Spread, wanted: NDArray[np.int32], head: Head) -> mx.array:
        if len(wanted) < self._current.tokens:
            index = mx.array(wanted)
            streams = Spread(*(part[index] for part in streams)) if isinstance(streams, Spread) else streams[index]
        weights, step = _hyper_weights(head.fn, head.scale, head.base), self._current.of_tokens(len(wanted))
        _, _, x = self._hyper(streams, weights, head.norm, step, head=True)
        return self.products.one(x, head.output, step)

    def to_host(self, array: mx.array) -> NDArray[np.float32]:
        return np.array(array.astype(mx.float32))

    # Parts

    def _narrow(self) -> bool:
        """Whether x is wanted in float16, too."""
        return self._current.tokens > MOST_TOKENS and self._apart

    def _hyper(
        self,
        streams: mx.array | Spread,
        hc: HyperWeights,
        norm: mx.array,
        step: Step,
        *,
        head: bool = False,
        narrow: bool = False,
    ) -> list[mx.array]:
        """One launch: (streams as they are now, mix, x), and x in float16 where that is wanted."""
        g, post = self.geometry, isinstance(streams, Spread)
        x, y, mixed = streams if isinstance(streams, Spread) else (streams, streams, streams)
        if "hyper" in self.without:
            return plain_hyper(g, x, y if post else None, mixed, hc, norm, head)
        n, tokens = g.hyper_connection_count, x.shape[0]
        outputs = [(x.shape, "float32"), ((tokens, n + n * n), "float32"), ((tokens, g.embedding_length), "float32")]
        outputs += [((tokens, g.embedding_length), "float16")] * narrow
        together = bodies.hyper_together(tokens)
        threads = bodies.hyper_threads(self.launcher.language, together)
        kernel = bodies.hyper(g, hc.fn_type, post, head, together, type_name(y), narrow, threads)
        inputs = [step.array, x, y, mixed, hc.fn, hc.scales, hc.base, norm]
        return self.launcher.run(kernel, inputs, outputs, (-(-tokens // together), 1, 1))

    def _spread(self, streams: mx.array | Spread, hc: HyperWeights, norm: mx.array) -> Collapsed:
        """One token's streams as they are now, and what collapsing them takes."""
        g, post = self.geometry, isinstance(streams, Spread)
        x, y, mixed = streams if isinstance(streams, Spread) else (streams, streams, streams)
        count, blocks = bodies.spread_shape(g)
        outputs = [(x.shape, "float32"), ((count, blocks), "float32")]
        kernel = bodies.spread(g, hc.fn_type, post)
        now, sums = self.launcher.run(kernel, [x, y, mixed, hc.fn], outputs, (blocks, 1, 1))
        return Collapsed(now, sums, hc, norm, self._how)

    def _spread_and_finish(
        self, streams: mx.array | Spread, hc: HyperWeights, norm: mx.array
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Several tokens' (streams as they are now, mix, x)."""
        g, post = self.geometry, isinstance(streams, Spread)
        before, y, mixed = streams if isinstance(streams, Spread) else (streams, streams, streams)
        (count, blocks), n, tokens = bodies.spread_shape(g), g.hyper_connection_count, before.shape[0]
        shapes = (before.shape, (tokens, count, blocks), (tokens, n + n * n), (tokens, g.embedding_length))
        kernel = bodies.spread(g, hc.fn_type, post, True)
        inputs = [before, y, mixed, hc.fn, hc.scales, hc.base, norm, self._counters]
        outputs = [(shape, "float32") for shape in shapes]
        now, _, mix, x = self.launcher.run(kernel, inputs, outputs, (blocks, tokens, 1))
        return now, mix, x

    def _hand_over(self, array: mx.array, step: Step) -> None:
        """Let the device begin while Python builds the next layers."""
        self._since += 1
        if self._since >= (PACE_FEW if step.tokens <= MOST_TOKENS else PACE_MANY):
            self._since = 0
            # writes that nothing of this step reads: left alone they would hold their inputs until the next step
            late = [] if step.plan.late else step.state.after
            mx.async_eval(array, *late)


def plain_hyper(
    g: Geometry, streams: mx.array, y: mx.array | None, mixed: mx.array, hc: HyperWeights, norm: mx.array, head: bool
) -> list[mx.array]:
    """What the kernel does, in stock MLX operations."""
    n, epsilon = g.hyper_connection_count, g.attention_layer_norm_rms_epsilon
    if y is not None:
        streams = hyper.spread(streams, y, mixed[:, :n], mixed[:, n:].reshape(-1, n, n))
    blocks = Blocks(hc.fn, {v: k for k, v in FN_TYPES.items()}[hc.fn_type], n * g.embedding_length, hc.owner)
    if head:
        gates = mx.sigmoid(hyper.mixes(streams, blocks, epsilon) * hc.scales[0] + hc.base[:n])
        inputs, mixed = gates + g.hyper_connection_epsilon, norm
    else:
        inputs, outputs, mixing = hyper.gates(streams, HyperConnection(blocks, hc.scales, hc.base), g)
        mixed = mx.concatenate([outputs, mixing.reshape(-1, n * n)], axis=1)
    return [streams, mixed, mx.fast.rms_norm(hyper.collapse(streams, inputs), norm, epsilon)]


FN_TYPES = {"F16": "half", "F32": "float"}


def _hyper_weights(fn: Blocks, scales: mx.array, base: mx.array) -> HyperWeights:
    """Raw F16 or F32; other formats are decoded to float32."""
    kind = FN_TYPES.get(fn.format_name)
    raw = fn.raw if kind else decode(fn.raw, fn.format_name).view(mx.uint8)
    return HyperWeights(raw, kind or "float", scales, base, fn.owner)
