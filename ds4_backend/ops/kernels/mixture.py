"""Router and experts: three launches for few tokens, expert-sorted tiles for many. It knows no model."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.ops.base import Experts, Router
from ds4_backend.ops.kernels import bodies, wide
from ds4_backend.ops.kernels.handles import Collapsed, Normed, Step
from ds4_backend.ops.kernels.kernel import type_name
from ds4_backend.ops.kernels.products import Products
from ds4_backend.ops.kernels.projections import GATE_ROWS, MOST_TOKENS, Job
from ds4_backend.ops.mlx.experts import mixture, route
from ds4_backend.ops.mlx.linear import Blocks

DOWN_ROWS = 4
"""Rows of a threadgroup of `experts_down` (constant R of its body)."""


class Mixture:
    """The feed-forward sub-layer of one network."""

    def __init__(self, g: Geometry, products: Products, *, plain: bool = False) -> None:
        self.g, self.products, self.launcher = g, products, products.launcher
        self.plain = plain or products.plain
        self.shared_at = -(-g.expert_count // 4) * 4

    def run(self, x: mx.array | Normed | Collapsed, router: Router, e: Experts, step: Step) -> mx.array:
        """y [T, D] of x [T, D]."""
        if isinstance(x, Collapsed):
            return self._few(x, router, e, step)
        x, half = x if isinstance(x, Normed) else (x, None)
        if self.plain or (step.tokens > MOST_TOKENS and not self._tiled(e)):
            chosen, shares = self._route(x, router, step)
            return mixture(x, chosen, shares, e)
        if step.tokens <= MOST_TOKENS:
            return self._few(x, router, e, step)
        return self._many(Normed(x, x.astype(mx.float16) if half is None else half), router, e, step)

    # Decode

    def _few(self, x: mx.array | Collapsed, router: Router, e: Experts, step: Step) -> mx.array:
        g, tokens, used = self.g, step.tokens, self.g.expert_used_count
        stride = self.shared_at + g.expert_feed_forward_length
        first = self._logits_and_shared(x, router, e, step, stride)
        if isinstance(x, Collapsed):
            assert x.x is not None
            x = x.x
        hashed, widely = router.table is not None, self._wide(e.gate, e.down, e.shared_down)
        arguments = (g, e.gate.format_name, hashed, e.clamp, stride)
        rows = wide.rows_of_block(e.gate.columns) if widely else GATE_ROWS
        blocks = -(-g.expert_feed_forward_length // rows)
        slots = wide.slots(used, blocks * tokens, e.gate.format_name, e.gate.columns) if widely else 1
        kernel = bodies.wide_up(*arguments, slots) if widely else bodies.experts_up(*arguments)
        bias, table = (step.array, router.table) if hashed else (router.bias, step.array)
        bias = x if hashed else bias
        pairs = max(tokens * used, 8)
        mid, chosen, _ = self.launcher.run(
            kernel,
            [step.array, x, first, bias, table, e.gate.raw, e.up.raw, *self.products.table(e.gate, widely=widely)],
            [((tokens, used, g.expert_feed_forward_length), "float32"), ((pairs,), "int32"), ((pairs,), "float32")],
            (blocks, used // slots, tokens),
        )
        return self._down(mid, chosen, first, e, stride, widely)

    def _down(
        self, mid: mx.array, chosen: mx.array, first: mx.array, e: Experts, stride: int, widely: bool
    ) -> mx.array:
        g, tokens = self.g, mid.shape[0]
        arguments = (g, e.down.format_name, e.shared_down.format_name, stride, self.shared_at)
        sixteens = wide.sixteens_down(g.embedding_length, e.down.columns, tokens) if widely else 1
        kernel = bodies.wide_down(*arguments, sixteens) if widely else bodies.experts_down(*arguments)
        rows = wide.rows_of_block(e.down.columns, sixteens) if widely else DOWN_ROWS
        table = self.products.table(e.down, e.shared_down, widely=widely)
        (y,) = self.launcher.run(
            kernel,
            [mid, chosen, e.down.raw, first, e.shared_down.raw, *table],
            [((tokens, g.embedding_length), "float32")],
            (-(-g.embedding_length // rows), tokens, 1),
        )
        return y

    def _wide(self, *matrices: Blocks) -> bool:
        """Whether tensor cores multiply with these as they lie in the file."""
        return self.launcher.language == "cuda" and all(wide.takes(m.format_name, m.columns) for m in matrices)

    def _logits_and_shared(
        self, x: mx.array | Collapsed, router: Router, e: Experts, step: Step, stride: int
    ) -> mx.array:
        """Router logits [T, E], then the shared expert's swiglu [T, F], side by side."""
        gate, shared = router.gate, e.shared_gate

        def jobs() -> tuple[Job, ...]:
            return (
                Job(gate.format_name, gate.rows, gate.columns, 0),
                Job(shared.format_name, shared.rows, shared.columns, self.shared_at, paired=True, clamp=float(e.clamp)),
            )

        return self.products.jobs(x, [gate, shared, e.shared_up], step, stride, jobs)

    # Prefill

    def _many(self, x: Normed, router: Router, e: Experts, step: Step) -> mx.array:
        g, tokens, used, half = self.g, step.tokens, self.g.expert_used_count, x.half
        chosen, shares = self._route(x.x, router, step)
        chosen = mx.contiguous(chosen.astype(mx.int32))
        tile = wide.PAIRS if self._wide(e.gate, e.down) else bodies.TILE
        pairs, count = tokens * used, -(-tokens * used // tile) + g.expert_count
        order, place, tiles = self.launcher.run(
            bodies.plan(g, tile), [step.array, chosen],
            [((pairs,), "int32"), ((pairs,), "int32"), ((max(3 * count, 8),), "int32")], (g.expert_count, 1, 1),
        )  # fmt: skip
        width, depth = g.expert_feed_forward_length, g.embedding_length
        widely = tile == wide.PAIRS
        gates = [tiles, order, half, e.gate.raw, e.up.raw]
        mid = self._tiles(gates, e.gate, float(e.clamp), (pairs, width), count, widely)
        routed = self._tiles([tiles, order, mid, e.down.raw, e.down.raw], e.down, None, (pairs, depth), count, widely)
        shared = self._shared(half, e)
        (y,) = self.launcher.run(
            bodies.gather(g, type_name(shared)), [routed, place, mx.contiguous(shares), shared],
            [((tokens, depth), "float32")], (-(-depth // bodies.TILE_THREADS), tokens, 1),
        )  # fmt: skip
        return y

    def _route(self, x: mx.array, router: Router, step: Step) -> tuple[mx.array, mx.array]:
        bias = None if router.bias is None else router.bias[: self.g.expert_count]  # vectors are padded
        router = replace(router, bias=bias)
        return route(x, router, step.ids, self.g.expert_used_count, self.g.expert_weights_scale)

    @staticmethod
    def _tiled(e: Experts) -> bool:
        """Whether tiles can take these widths: whole chunks of 64."""
        return not e.gate.columns % 64 and not e.down.columns % 64

    def _tiles(
        self,
        inputs: list[mx.array],
        matrix: Blocks,
        clamp: float | None,
        shape: tuple[int, int],
        count: int,
        widely: bool,
    ) -> mx.array:
        make, rows = (wide.tiles, wide.PAIR_ROWS) if widely else (bodies.tiles, bodies.TILE)
        kernel = make(matrix.format_name, matrix.rows, matrix.columns, self.g.expert_used_count, clamp)
        dtype = "float32" if clamp is None else "float16"
        inputs = inputs + self.products.table(matrix, widely=widely)
        (out,) = self.launcher.run(kernel, inputs, [(shape, dtype)], (-(-matrix.rows // rows), count, 1))
        return out

    def _shared(self, x: mx.array, e: Experts) -> mx.array:
        tokens, width = x.shape[0], e.shared_gate.rows
        both = self.products.wide(x, e.shared_gate, e.shared_up)
        groups = (-(-width // bodies.TILE_THREADS), tokens, 1)
        kernel = bodies.swiglu(width, both.shape[1], float(e.clamp))
        (gated,) = self.launcher.run(kernel, [both], [((tokens, width), "float16")], groups)
        return self.products.wide(gated, e.shared_down)
