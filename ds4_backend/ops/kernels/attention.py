"""Attention of one layer: what was gathered runs as few launches. It knows no weights' names and no model."""

from __future__ import annotations

import mlx.core as mx

from ds4_backend.gguf.geometry import CSA, HCA, SLIDING, Geometry
from ds4_backend.ops.kernels import bodies, wide
from ds4_backend.ops.kernels.handles import Grouped, Layer, Step
from ds4_backend.ops.kernels.kernel import type_name
from ds4_backend.ops.kernels.products import Launch, Products
from ds4_backend.ops.kernels.projections import Job, blocks_of, token_slots

LANES = {SLIDING: (), CSA: ("csa", "indexer"), HCA: ("hca",)}


class Attention:
    """Appends rows, chooses them, attends over them."""

    def __init__(self, g: Geometry, products: Products, simulated: bool) -> None:
        self.g, self.products, self.simulated = g, products, simulated
        self.launcher = products.launcher
        self._launches: dict[tuple[int, int], Launch] = {}

    def heads(self, step: Step, sinks: mx.array, layer: int, ordinal: int) -> mx.array | Grouped:
        """Heads [T, H, d] of a layer, rotated back; the state holds the step's rows afterwards."""
        work, ratio = step.gathered, self.g.ratio(layer)
        q, iq, rows, done = self._append(step, work, layer, ordinal)
        chosen = self._select(step, work, iq, ordinal, done) if ratio == CSA and step.plan.selecting else step.array
        parts, stats = self._attend(step, q, rows, chosen, layer, ordinal, done)
        step.state.after[layer] = stats
        if not step.plan.late:
            step.state.after[layer] = self._keep(step, work, rows, layer, ordinal)
        step.layer = None
        return self._combine(step, [step.array, parts, stats, sinks], ratio)

    # Launches

    def _append(
        self, step: Step, work: Layer, layer: int, ordinal: int
    ) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        """Rows into the state; queries [T, H, d] and index queries of the step: (q, iq, rows, done)."""
        g, ratio, tokens = self.g, self.g.ratio(layer), step.tokens
        assert work.kv is not None and work.kv_norm is not None
        fused = self.products.fused(step)
        closing = step.plan.closing.get(ratio, 0)
        blocks = 2 * tokens + (2 if ratio == CSA else 1) * closing
        launch = self._append_launch(work, layer, token_slots(tokens) if fused else 0)
        inputs = [step.array, work.low.array, work.kv_norm, step.state.window[layer], step.state.after[layer]]
        inputs += self._lanes(step, work, ratio, ordinal) + launch.weights
        outputs = [((tokens, g.attention_key_length), "float16"), ((max(blocks, 8),), "int32")]
        if not fused:
            rows, done = self.launcher.run(launch.kernel, inputs, outputs, (blocks, 1, 1))
            return *self._wide_queries(step, work), rows, done
        # the index queries come last: leave their threadgroups out where nothing is to be chosen
        blocks += launch.groups[1 if step.plan.selecting else 0]
        outputs.append(((tokens, sum(m.rows for m in work.query_matrices())), "float32"))
        rows, done, out = self.launcher.run(launch.kernel, inputs, outputs, (blocks, 1, 1))
        return out, out, rows, done

    def _append_launch(self, work: Layer, layer: int, slots: int) -> Launch:
        """What every append of a layer needs; its `groups` are threadgroups of the queries, without and with index
        queries. `slots` 0 is prefill, which appends only."""
        launch = self._launches.get((layer, slots))
        if launch is None:
            jobs, matrices = (self._query_jobs(work), work.query_matrices()) if slots else ((), [])
            p, widely = work.low.array, self.products.widely(jobs, slots)
            shape = (self._columns(work), p.shape[1], jobs, slots or 1, type_name(p))
            kernel = bodies.append(self.g, self.g.ratio(layer), self.simulated, *shape, widely)
            table = self.products.table(*matrices, widely=widely)
            weights = [work.low_norm, *(m.raw for m in matrices), *table] if slots else []
            one, all = ((wide.blocks_of(j, jobs) if widely else blocks_of(j, slots or 1)) for j in (jobs[:1], jobs))
            groups = (one, all, 0)
            launch = self._launches[layer, slots] = Launch(kernel, groups, weights, matrices)
        return launch

    def _query_jobs(self, work: Layer) -> tuple[Job, ...]:
        jobs, stride, at = [], work.low.array.shape[1], 0
        for m in work.query_matrices():
            jobs.append(Job(m.format_name, m.rows, m.columns, at, "p", stride, normed=True))
            at += m.rows
        return tuple(jobs)

    def _wide_queries(self, step: Step, work: Layer) -> tuple[mx.array, mx.array]:
        """Prefill: whole matrices decoded, then MLX's product."""
        low = work.low.array[:, : work.low.width].astype(mx.float32)
        low = mx.fast.rms_norm(low, work.low_norm, self.g.attention_layer_norm_rms_epsilon)
        low = low if self.products.plain else low.astype(mx.float16)
        q = self.products.wide(low, work.q_b)
        iq = self.products.wide(low, work.index_q_b) if work.index_q_b is not None and step.plan.selecting else q
        return q, iq

    def _select(self, step: Step, work: Layer, iq: mx.array, ordinal: int, done: mx.array) -> mx.array:
        g, plan = self.g, step.plan
        assert work.index_weights is not None
        weights = work.index_weights
        fused = self.products.fused(step)
        skipped, stride = (work.q_b.rows, iq.shape[1]) if fused else (0, iq.shape[1])
        types = type_name(weights.array), type_name(iq)
        kernel = bodies.score(g, self.simulated, weights.at, weights.array.shape[1], skipped, stride, *types)
        (scores,) = self.launcher.run(
            kernel,
            [step.array, iq, weights.array, step.state.pools["indexer"][ordinal], done],
            [((step.tokens, plan.score_stride), "float32")],
            (plan.score_blocks, step.tokens, 1),
        )
        shape = (step.tokens, g.attention_indexer_top_k)
        (chosen,) = self.launcher.run(bodies.top_k(g), [step.array, scores], [(shape, "int32")], (step.tokens, 1, 1))
        return chosen

    def _attend(
        self, step: Step, q: mx.array, rows: mx.array, chosen: mx.array, layer: int, ordinal: int, done: mx.array
    ) -> list[mx.array]:
        g, ratio = self.g, self.g.ratio(layer)
        splits, heads = step.plan.splits[ratio].count, bodies.heads_up(g)
        window = step.state.window[layer]
        pool = step.state.pools["hca" if ratio == HCA else "csa"][ordinal] if ratio != SLIDING else window
        shape = (step.tokens, splits, heads)
        return self.launcher.run(
            bodies.attend(g, ratio, q.shape[1], type_name(q)),
            [step.array, q, rows, window, pool, chosen, done],
            [((*shape, g.attention_key_length), "float32"), ((*shape, 2), "float32")],
            (splits, heads // 16, step.tokens),
        )

    def _combine(self, step: Step, inputs: list[mx.array], ratio: int) -> mx.array | Grouped:
        """Few tokens' heads as float32 [T, H, d], those of many as their groups' product reads them."""
        g, tokens, alike = self.g, step.tokens, self.products.fused(step) or self.products.plain
        heads, width = g.attention_head_count, g.attention_key_length
        groups = 1 if alike else g.attention_output_group_count
        shape = (tokens, heads, width) if alike else (groups, tokens, heads // groups * width)
        kernel = bodies.combine(g, ratio, "float" if alike else "half", groups)
        outputs = [(shape, "float32" if alike else "float16")]
        (out,) = self.launcher.run(kernel, inputs, outputs, (heads, tokens, 1))
        return out if alike else Grouped(out, width)

    def _keep(self, step: Step, work: Layer, rows: mx.array, layer: int, ordinal: int) -> mx.array:
        ratio = self.g.ratio(layer)
        p = work.low.array
        kernel = bodies.keep(self.g, ratio, self._columns(work), p.shape[1], type_name(p))
        inputs = [step.array, p, rows, step.state.window[layer], step.state.after[layer]]
        (done,) = self.launcher.run(
            kernel, inputs + self._lanes(step, work, ratio, ordinal), [((step.tokens,), "int32")], (step.tokens, 1, 1)
        )
        return done

    # Their arrays

    def _columns(self, work: Layer) -> tuple[int, ...]:
        """Columns of the window row, then of each compressor's values and gates."""
        assert work.kv is not None
        pairs = [c.at for values, gates, _ in work.compressors.values() for c in (values, gates)]
        return (work.kv.at, *pairs)

    def _lanes(self, step: Step, work: Layer, ratio: int, ordinal: int) -> list[mx.array]:
        arrays: list[mx.array] = []
        for kind in LANES[ratio]:
            _, _, compressor = work.compressors[kind]
            pool, lane = step.state.pools[kind][ordinal], step.state.lanes[kind][ordinal]
            arrays += [compressor.ape, compressor.norm, lane, pool]
        return arrays
