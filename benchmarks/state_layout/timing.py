"""Timing on MLX's CUDA backend, and device-made states of any context length.

MLX gives no device events: everything is wall time around an eval of many launches, so a launch never reads below MLX's
own cost a launch (measured as `empty launch`).
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import kernels
import layer as L
import mlx.core as mx
import numpy as np

OUT = os.environ.get("OUT", ".")
DEVICE = kernels.Cuda()
CLOSING = np.array([1, 0, 0], np.int32)
"""Added to the spans of `make_step`: the token that closes a window of every kind."""


def record(what: str, **values: Any) -> None:
    """Print one line and keep it in results.jsonl."""
    shown = {k: (float(f"{v:.4g}") if isinstance(v, float) else v) for k, v in values.items()}
    print(f"{what}: " + ", ".join(f"{k} {v}" for k, v in shown.items()), flush=True)
    with open(f"{OUT}/results.jsonl", "a") as f:
        f.write(json.dumps({"what": what, **shown}) + "\n")


def seconds(work: Callable[[], Any], repeats: int = 5) -> float:
    """Median wall time of `work`, which returns arrays to evaluate; two runs first to compile and to fill caches."""
    times = []
    for i in range(repeats + 2):
        mx.synchronize()
        start = time.perf_counter()
        mx.eval(work())
        mx.synchronize()
        if i >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def chain(launch: Callable[[int, Any], Any], count: int, first: Any) -> float:
    """Microseconds a launch when `count` launches each wait for the one before: launch(i, previous) -> its output."""

    def work() -> Any:
        last = first
        for i in range(count):
            last = launch(i, last)
        return last

    return seconds(work) / count * 1e6


def normal(*shape: int, dtype: Any = mx.float16) -> mx.array:
    """Random values made on the device."""
    a = mx.random.normal(shape, dtype=dtype)
    mx.eval(a)
    return a


def repeated(a: mx.array, layers: int) -> mx.array:
    """The same rows for each of `layers` layers in one array [pages, layers, ...], or `a` for 0."""
    if layers:
        a = mx.contiguous(mx.broadcast_to(a[:, None], (a.shape[0], layers, *a.shape[1:])))
        mx.eval(a)
    return a


def token_inputs(n: int) -> dict[str, mx.array]:
    """What the projections would give for one token of each of n conversations."""
    sizes = {
        "window_row": 512,
        "value": 1024,
        "gate": 1024,
        "index_value": 256,
        "index_gate": 256,
        "hca_value": 512,
        "hca_gate": 512,
        "weights": 64,
    }
    x = {name: normal(n, size, dtype=mx.float32) for name, size in sizes.items()}
    x["q"], x["iq"] = normal(n, 64, 512), normal(n, 64, 128)
    return x


def make_layers(pages: int, slots: int, count: int, shared: int = 0, ring: int = 128) -> list[L.LayerState]:
    """`count` layers with pools of their own, or, with `shared` layers in one pool, `count` views of that pool."""
    layers: list[L.LayerState] = []
    for i in range(count):
        if shared and layers:
            pools = layers[0].csa, layers[0].index, layers[0].hca
        else:
            pools = tuple(repeated(normal(pages, r, d), shared) for r, d in ((32, 512), (32, 128), (1, 512)))
        rings = (
            normal(slots, ring, 512),
            normal(slots, 8, 2, 1024, dtype=mx.float32),
            normal(slots, 8, 2, 256, dtype=mx.float32),
            normal(slots, 128, 2, 512, dtype=mx.float32),
        )
        place = L.Layout(shared, i * 7 % shared, ring) if shared else L.Layout(ring=ring)
        layers.append(L.LayerState(*pools, *rings, place, mx.zeros((4,), mx.int32)))
    return layers


def make_step(context: int, n: int, pages: int, shuffled: bool = True) -> tuple[np.ndarray, mx.array]:
    """Spans (host) of n conversations at their last token but one, and their page tables (device).

    That token closes no window; the one at `spans + CLOSING` closes one of every kind.
    """
    each = -(-context // 128)
    order = np.random.default_rng(0).permutation(pages) if shuffled else np.arange(pages)
    tables = order[: each * n].astype(np.int32)
    spans = np.array([(context - 2, n - 1 - i, i * each) for i in range(n)], np.int32)
    device = DEVICE.array(tables)
    mx.eval(device)
    return spans, device
