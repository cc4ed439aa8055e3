"""In-place writes: are readers ordered, what does an append cost, and what do a step's integers cost to upload?"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import layer as L
import mlx.core as mx
import numpy as np
import timing as t

SPIN = "long long start = clock64(); while (clock64() - start < 2000000) {}\n"
WRITE = "const_cast<float*>(pool)[threadIdx.x] = value[0]; done[threadIdx.x] = value[0];"
READ = "out[threadIdx.x] = pool[threadIdx.x];"


def small(name: str, inputs: list[str], output: str, source: str) -> Callable[..., mx.array]:
    """A kernel of one block of 32 that gives float32 [32]."""
    kernel = mx.fast.cuda_kernel(name, inputs, [output], source)

    def call(*arrays: mx.array) -> mx.array:
        return kernel(
            inputs=list(arrays),
            output_shapes=[(32,)],
            output_dtypes=[mx.float32],
            grid=(32, 1, 1),
            threadgroup=(32, 1, 1),
        )[0]

    return call


def ordering(trials: int = 40) -> None:
    """How often a reader sees the wrong value, for each way of telling MLX about the write."""
    slow_write = small("slow_write", ["pool", "value", "after"], "done", SPIN + WRITE)
    write = small("quick_write", ["pool", "value", "after"], "done", WRITE)
    read = small("quick_read", ["pool", "after"], "out", READ)
    slow_read = small("slow_read", ["pool", "after"], "out", SPIN + READ)
    pool, zero = t.normal(1024, dtype=mx.float32), mx.zeros((32,))
    values = [mx.full((1,), float(i)) for i in range(trials + 1)]
    mx.eval(pool, zero, values, write(pool, values[0], zero))

    def depends(after: mx.array) -> mx.array:
        return mx.depends([pool], [after])[0]

    def one_eval(i: int, reader: Callable[[mx.array], mx.array]) -> mx.array:
        done = slow_write(pool, values[i], zero)
        out = reader(done)
        mx.eval(done, out)
        return out

    def two_evals(i: int) -> mx.array:
        mx.async_eval(slow_write(pool, values[i], zero))
        out = read(pool, zero)
        mx.eval(out)
        return out

    def read_then_write(i: int, chained: bool) -> mx.array:
        out = slow_read(pool, zero)
        mx.eval(out, write(pool, values[i], out if chained else zero))
        return out

    cases: dict[str, tuple[Callable[[int], mx.array], int]] = {
        "write then read, the writer's output an input": (lambda i: one_eval(i, lambda d: read(pool, d)), 0),
        "write then read, mx.depends, kernel": (lambda i: one_eval(i, lambda d: read(depends(d), zero)), 0),
        "write then read, mx.depends, stock op": (lambda i: one_eval(i, lambda d: depends(d)[:32] + 0.0), 0),
        "write then read, nothing": (lambda i: one_eval(i, lambda d: read(pool, zero)), 0),
        "write then read in the next eval, nothing": (two_evals, 0),
        "read then write, the reader's output an input": (lambda i: read_then_write(i, True), -1),
        "read then write, nothing": (lambda i: read_then_write(i, False), -1),
    }
    for name, (run, shift) in cases.items():
        mx.eval(write(pool, values[0], zero))
        wrong = sum(bool((np.array(run(i)) != float(i + shift)).any()) for i in range(1, trials + 1))
        t.record(f"order / {name}", wrong=wrong, of=trials)


def launches() -> None:
    """Cost of an empty launch, and of the same launch with a large array among its inputs."""
    empty = small("empty", ["after", "pool"], "out", "out[threadIdx.x] = after[threadIdx.x];")
    first = mx.zeros((32,))
    for name, pool in (
        ("1 KB", mx.zeros((256,))),
        ("268 MB", mx.zeros((2**27,), mx.float16)),
        ("5.6 GB", mx.zeros((8192, 21, 32, 512), mx.float16)),
    ):
        mx.eval(pool)
        us = t.chain(lambda i, last, p=pool: empty(last, p), 300, first)
        t.record(f"empty launch / input of {name}", us=us)


def appends() -> None:
    """One token into 21 CSA layers: the append kernel against slice assignment, each step evaluated."""
    x, w = t.token_inputs(1), L.random_weights(t.DEVICE, np.random.default_rng(0))
    for context in (32_768, 131_072, 1_048_576):
        pages = context // 128
        layers = t.make_layers(pages, 1, 21)
        spans, tables = t.make_step(context, 1, pages)
        step = (t.DEVICE.array(spans + t.CLOSING), tables)
        mx.eval(step)

        def kernels(layers: list[L.LayerState] = layers, step: Any = step) -> list[mx.array]:
            for s in layers:
                L.append_csa(t.DEVICE, step, x, w, s)
            return [s.after for s in layers]

        def slices(layers: list[L.LayerState] = layers, pages: int = pages) -> list[mx.array]:
            for s in layers:
                s.csa[pages - 1, 31], s.index[pages - 1, 31] = x["q"][0, 0], x["iq"][0, 0]
                s.window[0, 127] = x["q"][0, 0]
                s.lane[0, 7, 0], s.lane[0, 7, 1] = x["value"][0], x["gate"][0]
                s.index_lane[0, 7, 0], s.index_lane[0, 7, 1] = x["index_value"][0], x["index_gate"][0]
            return [a for s in layers for a in (s.csa, s.index, s.window, s.lane, s.index_lane)]

        t.record(
            f"append to 21 layers / {context} tokens",
            kernel_us=t.seconds(kernels) * 1e6,
            slice_assignment_us=t.seconds(slices) * 1e6,
        )
        del layers


def uploads() -> None:
    """A step of 43 chained launches that read the step's integers, and how those integers got there."""
    body = "out[threadIdx.x] = after[threadIdx.x] + float(a[0] + b[0] + c[threadIdx.x % C]);"
    kernel = mx.fast.cuda_kernel("integers", ["a", "b", "c", "after"], ["out"], body)
    shape_body = "out[threadIdx.x] = after[threadIdx.x] + float(a_shape[0] + a_shape[1] + a_shape[2]);"
    by_shape = mx.fast.cuda_kernel("integers_by_shape", ["a", "after"], ["out"], shape_body, "", False)
    form = {"output_shapes": [(32,)], "output_dtypes": [mx.float32], "grid": (32, 1, 1), "threadgroup": (32, 1, 1)}
    one, fixed, tiny = mx.zeros((8,), mx.int32), mx.zeros((8192,), mx.int32), mx.zeros((1, 1, 1), mx.int32)
    mx.eval(one, fixed, tiny)
    table = np.arange(8192, dtype=np.int32)
    names = [f"a{n}" for n in range(8)]
    lines = "".join(f"out[{3 * n + k}] = a{n}_shape[{k}];\n" for n in range(8) for k in range(3))
    gather = mx.fast.cuda_kernel("spans_by_shape", names, ["out"], lines, "", False)
    copy = mx.fast.cuda_kernel("copied", ["a"], ["out"], "out[threadIdx.x] = a[threadIdx.x];")

    def spans_by_shape(i: int, n: int) -> mx.array:
        views = [mx.broadcast_to(tiny, (1_000_000 + i, 7, 60_000)) for _ in range(n)]
        return gather(
            inputs=[*views, *[tiny] * (8 - n)],
            output_shapes=[(24,)],
            output_dtypes=[mx.int32],
            grid=(1, 1, 1),
            threadgroup=(1, 1, 1),
        )[0]

    def copied(a: mx.array) -> mx.array:
        return copy(
            inputs=[a], output_shapes=[(24,)], output_dtypes=[mx.int32], grid=(24, 1, 1), threadgroup=(24, 1, 1)
        )[0]

    def numbers(i: int, n: int) -> mx.array:
        return mx.array(np.full(n, i, np.int32))

    forms: dict[str, Callable[[int], list[mx.array]]] = {
        "nothing uploaded": lambda i: [one, one, fixed],
        "mx.array(int), one": lambda i: [mx.array(i), one, fixed],
        "mx.array(int), two": lambda i: [mx.array(i), mx.array(i + 1), fixed],
        "int32 [2], one": lambda i: [numbers(i, 2), one, fixed],
        "int32 [24], one": lambda i: [numbers(i, 24), one, fixed],
        "int32 [24], two": lambda i: [numbers(i, 24), numbers(i, 24), fixed],
        "int32 [24], copied on the device": lambda i: [numbers(i, 24) + one[:1], one, fixed],
        "int32 [24] and a table of 8192": lambda i: [numbers(i, 24), one, mx.array(table)],
        "a table of 8192 and 24 in one array": lambda i: [one, one, mx.array(table)],
        "shape of a broadcast": lambda i: [mx.broadcast_to(tiny, (i + 1, 7, 9))],
        "shape of a broadcast, 1 span through a first kernel": lambda i: [spans_by_shape(i, 1), one, fixed],
        "shape of a broadcast, 8 spans through a first kernel": lambda i: [spans_by_shape(i, 8), one, fixed],
        "int32 [24] through a first kernel": lambda i: [copied(numbers(i, 24)), one, fixed],
    }
    for name, make in forms.items():

        def step(i: int, make: Callable[[int], list[mx.array]] = make) -> mx.array:
            arrays, last = make(i), mx.zeros((32,))
            for _ in range(43):
                if len(arrays) == 1:
                    (last,) = by_shape(inputs=[*arrays, last], **form)
                else:
                    (last,) = kernel(inputs=[*arrays, last], template=[("C", 8192)], **form)
            return last

        if len(make(0)) == 1:
            assert np.array(step(5))[0] == 43 * (6 + 7 + 9), "the shape did not arrive"
        for i in range(5):
            mx.async_eval(step(i))
        mx.synchronize()
        start = time.perf_counter()
        for i in range(100):
            mx.async_eval(step(i))
        mx.synchronize()
        t.record(f"upload / {name}", step_us=(time.perf_counter() - start) * 1e4)


def slices() -> None:
    """Slice assignment of one row into a pool of 2.1 GB: does it copy?"""
    row = t.normal(512)
    pool = mx.zeros((1 << 21, 512), mx.float16)
    mx.eval(pool)

    def write(pool: mx.array, held: bool) -> mx.array:
        former = mx.array(pool) if held else None
        pool[5] = row
        mx.eval(pool)
        del former
        return pool

    for name, held in (("nobody else holds the pool", False), ("another reference is alive", True)):
        t.record(f"slice assignment / {name}", us=t.seconds(lambda held=held: write(pool, held)) * 1e6)

    def read_and_write() -> list[mx.array]:
        before = pool[7] + 1
        pool[5] = row
        return [before, pool]

    t.record("slice assignment / a reader of the old rows in the same graph", us=t.seconds(read_and_write) * 1e6)


def results() -> None:
    """What a step's result costs to read: logits to the host, or the best token only."""
    logits = t.normal(129_280, dtype=mx.float32)
    for name, work in (("logits by np.array", lambda a: np.array(a)), ("argmax, item", lambda a: mx.argmax(a).item())):
        times = []
        for i in range(30):
            a = logits + float(i)
            mx.eval(a)
            start = time.perf_counter()
            work(a)
            times.append(time.perf_counter() - start)
        t.record(f"result / {name}", us=sorted(times)[15] * 1e6)


if __name__ == "__main__":
    sections = {f.__name__: f for f in (ordering, launches, appends, slices, uploads, results)}
    for name in sys.argv[1:] or sections:
        sections[name]()
