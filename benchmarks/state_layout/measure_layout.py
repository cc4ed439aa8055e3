"""One pool array per layer against one array for all layers: gather, export and import of 800 pages, growth."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import numpy as np
import timing as t

PAGES, LAYERS, MOVED = 8192, 21, 800
GATHER = r"""
const int r = rows[blockIdx.x];
const T* from = pool + OFFSET + size_t(tables[r / 32]) * STRIDE + r % 32 * 512;
reinterpret_cast<uint4*>(out)[blockIdx.x * 64 + threadIdx.x] = reinterpret_cast<const uint4*>(from)[threadIdx.x];
"""
SCATTER = r"""
T* to = const_cast<T*>(pool) + OFFSET + size_t(pages[blockIdx.y]) * STRIDE;
const size_t at = size_t(blockIdx.x) * 256 + threadIdx.x;
if (at < COUNT / 8) {
  reinterpret_cast<uint4*>(to)[at] = reinterpret_cast<const uint4*>(rows + size_t(blockIdx.y) * FROM_STRIDE + FROM)[at];
}
if (at == 0 && blockIdx.y == 0) done[0] = 1;
"""


def scatter(
    rows: mx.array,
    pages: mx.array,
    pool: mx.array,
    stride: int,
    offset: int,
    count: int,
    source: tuple[int, int],
    after: mx.array,
) -> mx.array:
    """In place: `count` values of each page, from rows at (stride, start), into the pool at `stride` and `offset`."""
    kernel = mx.fast.cuda_kernel("scatter", ["rows", "pages", "pool", "after"], ["done"], SCATTER)
    return kernel(
        inputs=[rows, pages, pool, after],
        output_shapes=[(1,)],
        output_dtypes=[mx.int32],
        grid=(-(-count // 2048) * 256, pages.size, 1),
        threadgroup=(256, 1, 1),
        template=[
            ("T", mx.float16),
            ("OFFSET", offset),
            ("STRIDE", stride),
            ("COUNT", count),
            ("FROM_STRIDE", source[0]),
            ("FROM", source[1]),
        ],
    )[0]


def one_array(pools: Sequence[mx.array]) -> mx.array:
    """All layers' pools in one array [pages, layers, 32, d], put there by our own kernel."""
    shared, done = mx.zeros((PAGES, LAYERS, 32, 512), mx.float16), mx.zeros((1,), mx.int32)
    mx.eval(shared)
    for i, pool in enumerate(pools):
        done = scatter(pool, mx.arange(PAGES), shared, LAYERS * 16384, i * 16384, 16384, (16384, 0), done)
    mx.eval(done)
    return shared


def stock_ops(pools: Sequence[mx.array], shared: mx.array) -> None:
    """Do MLX's own ops get 2.8e9 elements right? Layers that came out wrong, of 21."""
    pages = mx.array(np.random.default_rng(2).permutation(PAGES)[:64].astype(np.int32))
    want = [np.array(mx.take(p, pages, axis=0)) for p in pools]

    def layers_of(a: mx.array) -> list[np.ndarray]:
        taken = np.array(mx.take(a, pages, axis=0))
        return [taken[:, i] for i in range(LAYERS)]

    cases: dict[str, Callable[[], list[np.ndarray]]] = {
        "mx.take": lambda: layers_of(shared),
        "slice, take": lambda: [np.array(mx.take(shared[:, i], pages, axis=0)) for i in range(LAYERS)],
        "mx.stack": lambda: layers_of(mx.stack(pools, axis=1)),
        "mx.concatenate": lambda: layers_of(mx.concatenate([shared[:4000], shared[4000:]])),
    }
    for name, work in cases.items():
        wrong = [i for i, (got, w) in enumerate(zip(work(), want, strict=True)) if not np.array_equal(got, w)]
        t.record(f"over 2^31 elements / {name}", wrong=len(wrong))
        mx.clear_cache()


def gathers(pools: list[mx.array], shared: mx.array) -> None:
    """512 rows of random pages, a launch a layer, both layouts."""
    kernel = mx.fast.cuda_kernel("gather", ["rows", "tables", "pool", "after"], ["out"], GATHER)
    rng = np.random.default_rng(0)
    tables = t.DEVICE.array(rng.permutation(PAGES).astype(np.int32))
    rows = [t.DEVICE.array(np.sort(rng.choice(PAGES * 32, 512, False)).astype(np.int32)) for _ in range(LAYERS)]
    mx.eval(tables, rows)

    def launch(i: int, last: mx.array, one: bool) -> mx.array:
        layer = i % 3 * 7
        stride, offset = (LAYERS * 16384, layer * 16384) if one else (16384, 0)
        return kernel(
            inputs=[rows[i % LAYERS], tables, shared if one else pools[layer], last],
            output_shapes=[(512, 512)],
            output_dtypes=[mx.float16],
            grid=(512 * 64, 1, 1),
            threadgroup=(64, 1, 1),
            template=[("T", mx.float16), ("STRIDE", stride), ("OFFSET", offset)],
        )[0]

    first = t.normal(512, 512)
    for i in range(3):
        assert mx.array_equal(launch(i, first, True), launch(i, first, False)), "the two layouts differ"
    for name, one in (("an array a layer", False), ("one array", True)):
        t.record(f"gather 512 rows / {name}", us=t.chain(lambda i, last, one=one: launch(i, last, one), 105, first))


def timed(name: str, work: Callable[[], Any], nbytes: int, repeats: int = 4) -> Any:
    """Wall times of `work` one after another (the first includes fresh memory); its last result."""
    times, result = [], None
    for _ in range(repeats):
        del result
        mx.synchronize()
        start = time.perf_counter()
        result = work()
        mx.synchronize()
        times.append(time.perf_counter() - start)
    t.record(name, first_ms=times[0] * 1e3, best_ms=min(times) * 1e3, best_gb_s=nbytes / min(times) / 1e9)
    return result


def moves(pools: list[mx.array], shared: mx.array) -> None:
    """CSA rows of 800 pages (100k tokens, 551 MB) to the host and back."""
    pages = mx.array(np.random.default_rng(1).permutation(PAGES)[:MOVED].astype(np.int32))
    size = MOVED * LAYERS * 16384 * 2

    def evaluated(a: mx.array) -> mx.array:
        mx.eval(a)
        return a

    timed(
        "export, device part / an array a layer",
        lambda: evaluated(mx.stack([mx.take(p, pages, axis=0) for p in pools], axis=1)),
        size,
    )
    timed("export, device part / one array", lambda: evaluated(mx.take(shared, pages, axis=0)), size)

    def fresh(wanted: mx.array = pages) -> mx.array:
        return evaluated(mx.stack([mx.take(p, wanted, axis=0) for p in pools], axis=1))

    timed("export, gather and np.array", lambda: np.array(fresh()), size)

    def and_clear() -> np.ndarray:
        mx.clear_cache()  # np.array moved the former buffer to managed memory, and the cache would hand it out again
        return np.array(fresh())

    timed("export, gather and np.array, cache cleared", and_clear, size)
    timed("export, gather and memoryview, copied", lambda: np.asarray(memoryview(fresh())).copy(), size)

    def in_pieces(workers: int) -> np.ndarray:
        out = np.empty((MOVED, LAYERS, 32, 512), np.float16)
        pieces = [fresh(pages[i : i + 50]) for i in range(0, MOVED, 50)]

        def copy(i: int) -> None:
            out[i * 50 : i * 50 + 50] = np.asarray(memoryview(pieces[i]))

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(copy, range(len(pieces))))
        return out

    for workers in (1, 4, 8):
        timed(f"export, 16 pieces, {workers} threads", lambda w=workers: in_pieces(w), size)

    host = np.array(fresh())
    made = timed("import, mx.array", lambda: mx.array(host), size)

    def threads(workers: int) -> list[mx.array]:
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda i: mx.array(host[i : i + 50]), range(0, MOVED, 50)))

    for workers in (1, 4, 8):
        timed(f"import, 16 mx.arrays, {workers} threads", lambda w=workers: threads(w), size)

    zero, whole = mx.zeros((1,), mx.int32), LAYERS * 16384

    def to_shared(rows: mx.array) -> mx.array:
        return evaluated(scatter(rows, pages, shared, whole, 0, whole, (whole, 0), zero))

    def to_layers(rows: mx.array) -> mx.array:
        done = zero
        for i, pool in enumerate(pools):
            done = scatter(rows, pages, pool, 16384, 0, 16384, (whole, i * 16384), done)
        return evaluated(done)

    timed("import, scatter of what mx.array made, first touch / one array", lambda: to_shared(made), size, 1)
    timed("import, scatter again / one array", lambda: to_shared(made), size)
    timed("import, scatter again / an array a layer", lambda: to_layers(made), size)
    layer = np.array(mx.take(pools[5], pages, axis=0))
    assert np.array_equal(layer, host[:, 5]), "a layer's rows did not come back"
    timed("import, all: mx.array and scatter / one array", lambda: to_shared(mx.array(host)), size)
    timed("import, all: mx.array and scatter / an array a layer", lambda: to_layers(mx.array(host)), size)


def growth() -> None:
    """From 4096 to 8192 pages by concatenation: time and peak memory."""
    layouts = ("an array a layer", LAYERS, (4096, 32, 512)), ("one array", 1, (4096, LAYERS, 32, 512))
    for name, count, shape in layouts:
        pools = [mx.zeros(shape, mx.float16) for _ in range(count)]
        mx.eval(pools)
        mx.clear_cache()
        mx.reset_peak_memory()
        start = time.perf_counter()
        for i in range(count):
            pools[i] = mx.concatenate([pools[i], mx.zeros(shape, mx.float16)])
            mx.eval(pools[i])
            mx.clear_cache()
        mx.synchronize()
        t.record(
            f"growth to 8192 pages / {name}",
            ms=(time.perf_counter() - start) * 1e3,
            peak_gb=mx.get_peak_memory() / 1e9,
            held_gb=mx.get_active_memory() / 1e9,
        )
        del pools


if __name__ == "__main__":
    growth()
    pools = [t.normal(PAGES, 32, 512) for _ in range(LAYERS)]
    shared = one_array(pools)
    gathers(pools, shared)
    stock_ops(pools, shared)
    moves(pools, shared)
