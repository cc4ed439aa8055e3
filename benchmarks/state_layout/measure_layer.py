"""Each launch of a CSA and an HCA layer, and whole decode steps of 21 CSA and 20 HCA layers, at several contexts."""

from __future__ import annotations

import sys
import time
from typing import Any

import layer as L
import mlx.core as mx
import numpy as np
import timing as t

CASES = ((2048, 1), (32_768, 1), (131_072, 1), (1_048_576, 1), (32_768, 8))
"""Context in tokens and conversations a step."""


class Bench:
    """States, inputs and a step of one case."""

    def __init__(
        self, context: int, n: int, layers: int = 21, shared: int = 0, ring: int = 128, shuffled: bool = True
    ) -> None:
        self.context, self.n, self.pages = context, n, -(-context // 128) * n
        self.rows, self.hca_rows = context // 4, context // 128
        self.layers = t.make_layers(self.pages, n, layers, shared, ring)
        self.spans, self.tables = t.make_step(context, n, self.pages, shuffled)
        self.step = (t.DEVICE.array(self.spans), self.tables)
        self.closing = (t.DEVICE.array(self.spans + t.CLOSING), self.tables)
        self.x, self.w = t.token_inputs(n), L.random_weights(t.DEVICE, np.random.default_rng(0))
        rng = np.random.default_rng(1)
        pick = min(512, self.rows)
        chosen = np.stack([np.sort(rng.choice(self.rows, pick, False)) for _ in range(n)])
        self.chosen = t.DEVICE.array(np.pad(chosen, ((0, 0), (0, 512 - pick)), constant_values=-1).astype(np.int32))
        self.blocks = max(1, min(-(-self.context // 128), 1056 // n))
        mx.eval(self.step, self.closing, self.chosen)

    def csa(self, s: L.LayerState, step: Any) -> mx.array:
        L.append_csa(t.DEVICE, step, self.x, self.w, s)
        chosen = self.chosen
        if self.rows > 512:
            scores = L.score(t.DEVICE, step, self.x["iq"], self.x["weights"], s, self.rows, self.blocks)
            chosen = L.top_k(t.DEVICE, step[0], scores)
        return L.attend(t.DEVICE, step, self.x["q"], self.w, s, chosen, min(512, self.rows), False)

    def hca(self, s: L.LayerState, step: Any) -> mx.array:
        L.append_hca(t.DEVICE, step, self.x, self.w, s)
        return L.attend(t.DEVICE, step, self.x["q"], self.w, s, self.chosen, self.hca_rows, True)


def pieces(b: Bench, name: str) -> None:
    """Microseconds of every launch, chained over 21 layers' pools; bandwidth of what it must read."""
    layers, count = b.layers, 63

    def pick(i: int, last: Any) -> L.LayerState:
        s = layers[i % len(layers)]
        s.after = last
        return s

    def append(i: int, last: Any) -> Any:
        s = pick(i, last)
        L.append_csa(t.DEVICE, b.step, b.x, b.w, s)
        return s.after

    def append_hca(i: int, last: Any) -> Any:
        s = pick(i, last)
        L.append_hca(t.DEVICE, b.step, b.x, b.w, s)
        return s.after

    def attend(i: int, last: Any, every: bool = False, split: int = 64) -> Any:
        rows = b.hca_rows if every else min(512, b.rows)
        return L.attend(t.DEVICE, b.step, b.x["q"], b.w, pick(i, last), b.chosen, rows, every, split)

    first = mx.zeros((4,), mx.int32)
    us = {"append_csa": t.chain(append, count, first), "append_hca": t.chain(append_hca, count, first)}
    read = b.n * (128 + min(512, b.rows)) * 1024
    for split in (64, 128):
        took = t.chain(lambda i, last, split=split: attend(i, last, False, split), count, first)
        us[f"attend+combine CSA, split {split}"] = took
        us[f"  rows GB/s, split {split}"] = read / took / 1e3
    us["attend+combine HCA"] = t.chain(lambda i, last: attend(i, last, True), count, first)
    us["  HCA rows GB/s"] = b.n * (128 + b.hca_rows) * 1024 / us["attend+combine HCA"] / 1e3
    if b.rows > 512:
        for blocks in (132, 264, 528, 1056, 2112):
            each = max(1, min(b.context // 128, blocks // b.n))
            took = t.chain(
                lambda i, last, each=each: L.score(
                    t.DEVICE, b.step, b.x["iq"], b.x["weights"], pick(i, last), b.rows, each
                ),
                count,
                first,
            )
            us[f"score, {each} blocks"] = took
            us[f"  rows GB/s, {each} blocks"] = b.n * b.rows * 256 / took / 1e3
        scores = [L.score(t.DEVICE, b.step, b.x["iq"], b.x["weights"], s, b.rows, b.blocks) for s in layers]
        mx.eval(scores)
        us["top-k"] = t.chain(lambda i, last: L.top_k(t.DEVICE, b.step[0], scores[i % 3], last), count, b.chosen)
    t.record(f"pieces / {name}", **us)


def steps(b: Bench, name: str) -> None:
    """A decode step's attention state work: 21 CSA and 20 HCA layers, one step queued while the former runs."""

    def step() -> mx.array:
        spans = (t.DEVICE.array(b.spans), b.tables)
        for i, s in enumerate(b.layers):
            last = b.csa(s, spans)
            if i < 20:
                last = b.hca(s, spans)
            b.layers[(i + 1) % len(b.layers)].after = last
        return last

    for _ in range(3):
        mx.eval(step())
    start = time.perf_counter()
    built = 0.0
    for _ in range(20):
        begin = time.perf_counter()
        last = step()
        built += time.perf_counter() - begin
        mx.async_eval(last)
    mx.eval(last)
    mx.synchronize()
    t.record(f"step / {name}", ms=(time.perf_counter() - start) / 20 * 1e3, python_ms=built / 20 * 1e3)


def once(b: Bench) -> None:
    """Every launch once or twice, for a profiler (`ncu`)."""
    for step in (b.step, b.closing):
        mx.eval(b.csa(b.layers[0], step))
        mx.eval(b.hca(b.layers[0], step))


if __name__ == "__main__":
    if "once" in sys.argv[1:]:
        for context, n in CASES:
            once(Bench(context, n, layers=1))
        once(Bench(1_048_576, 1, layers=1, shuffled=False))
        sys.exit()
    only_steps = "steps" in sys.argv[1:]
    for context, n in CASES:
        bench = Bench(context, n)
        if not only_steps:
            pieces(bench, f"{n} x {context}")
        steps(bench, f"{n} x {context}")
        del bench
        mx.clear_cache()
    if not only_steps:
        for name, options in (
            ("21 layers in one pool (3 of them used)", {"layers": 3, "shared": 21}),
            ("ring of 256", {"ring": 256}),
        ):
            bench = Bench(1_048_576 if "shared" in options else 32_768, 1, **options)
            pieces(bench, f"{name}, 1 x {bench.context}")
            del bench
            mx.clear_cache()
