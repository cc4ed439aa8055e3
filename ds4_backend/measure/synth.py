"""A random GGUF of a true shape, to time and size what is too large to fetch: `ds4-backend debug synth`.

Numbers are sane, not meaningful: every matrix keeps the variance of what it multiplies (deviation 1/sqrt(inputs)),
norms are ones, router biases zero. Several processes fill the file from pools of random blocks; the bytes depend on the
seed alone. It knows shapes and formats, and nothing of the network's arithmetic.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from ds4_backend import progress
from ds4_backend.convert.metadata import model_metadata, size_label
from ds4_backend.convert.recipe import FILE_TYPES, choose_format
from ds4_backend.convert.tokenizer import stand_in
from ds4_backend.errors import ConversionError
from ds4_backend.gguf.formats import FORMATS
from ds4_backend.gguf.geometry import ARCHITECTURE, Geometry
from ds4_backend.gguf.reader import Tensor
from ds4_backend.gguf.schema import expected_tensors
from ds4_backend.gguf.writer import Layout, TensorPlan, check_free_space, plan_layout
from ds4_backend.measure.random_blocks import POOL_BYTES, random_pool, table_pool

RECIPES = ("q2", "q4", "q8", "mxfp4")
TASK_BYTES = 64 << 20
"""What a process fills at a time."""


def plan(g: Geometry, recipe: str) -> Layout:
    """Where everything will lie, and the size in bytes (`nbytes`), before a byte is written."""
    shapes = expected_tensors(g)
    tensors = [TensorPlan(name, shape, choose_format(name, shape, recipe)[0]) for name, shape in shapes.items()]
    keys: dict[str, Any] = {
        "general.architecture": ARCHITECTURE,
        "general.type": "model",
        "general.name": f"random weights, {g.block_count} layers of {g.embedding_length}, {recipe}",
        "general.size_label": size_label(shapes, g.expert_count),
        "general.file_type": FILE_TYPES[recipe],
        "general.quantization_version": 2,
        "ds4.dialect": "0731",
        "ds4.cache_simulation": True,
    }
    return plan_layout(keys | model_metadata(g) | stand_in(g.vocab_size)[0], tensors)


def write_random(
    g: Geometry,
    recipe: str,
    out: Path,
    *,
    seed: int = 0,
    jobs: int | None = None,
    report: progress.Report = progress.silent,
) -> Layout:
    """Write the file; `jobs` processes, by default one a core. `report` is called with bytes done and in all.

    Raises ConversionError where the disk is too small, or a writer dies; `out` then does not exist.
    """
    layout, jobs = plan(g, recipe), jobs or os.cpu_count() or 1
    partial = out.with_name(out.name + ".partial")
    check_free_space(partial, layout.nbytes)
    try:
        with partial.open("wb") as file:
            file.write(layout.header)
            file.truncate(layout.nbytes)
        _fill_all(list(_tasks(layout, g, partial, seed)), jobs, report)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return layout


def random_tensors(g: Geometry, recipe: str, seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a small network of that shape, in memory and without a file."""
    return {name: _tensor(name, shape, recipe, g, seed) for name, shape in expected_tensors(g).items()}


def _tensor(name: str, shape: tuple[int, ...], recipe: str, g: Geometry, seed: int) -> Tensor:
    plan = TensorPlan(name, shape, choose_format(name, shape, recipe)[0])
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if len(shape) == 1:
        data = _vector(name, shape[0], rng).view(np.uint8)
    elif plan.format_name == "I32":
        data = np.resize(table_pool(g.expert_count, shape[-1], rng), plan.nbytes)
    else:
        pool = random_pool(plan.format_name, _deviation(name, shape), rng, min(plan.nbytes, POOL_BYTES))
        data = np.resize(pool, plan.nbytes)
    return Tensor(name, shape, FORMATS[plan.format_name], data.reshape(*shape[:-1], -1))


@dataclass(frozen=True, slots=True)
class Task:
    """A run of whole blocks of one tensor: `count` blocks at byte `offset` of the file."""

    path: Path
    offset: int
    count: int
    name: str
    shape: tuple[int, ...]
    format_name: str
    experts: int
    seed: int

    @property
    def nbytes(self) -> int:
        return self.count * self.unit

    @property
    def unit(self) -> int:
        """Bytes that belong together: a block, or a row of a router's table."""
        return 4 * self.shape[-1] if self.format_name == "I32" else FORMATS[self.format_name].block_bytes


def _tasks(layout: Layout, g: Geometry, path: Path, seed: int) -> Iterator[Task]:
    for name, tensor in layout.plans.items():
        whole = Task(path, layout.offsets[name], 0, name, tensor.shape, tensor.format_name, g.expert_count, seed)
        step = max(1, TASK_BYTES // whole.unit)
        total = tensor.nbytes // whole.unit
        for first in range(0, total, step):
            at = whole.offset + first * whole.unit
            count = min(step, total - first)
            yield Task(path, at, count, name, tensor.shape, tensor.format_name, g.expert_count, seed)


def _fill_all(tasks: list[Task], jobs: int, report: progress.Report) -> None:
    total, done = sum(task.nbytes for task in tasks), 0
    if jobs == 1:
        for task in tasks:
            done += fill(task)
            report(done, total)
        return
    try:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            # Neighbours differ in kind, so every process would need every pool: give them out in runs.
            futures = [pool.submit(fill, task) for task in sorted(tasks, key=_kind)]
            for future in as_completed(futures):
                done += future.result()
                report(done, total)
    except BrokenProcessPool:
        raise ConversionError(
            f"a process that wrote {tasks[0].path} died after {done / 1e9:.1f} of {total / 1e9:.1f} GB: the disk or "
            "the memory is full; make room, or choose another place"
        ) from None


def _kind(task: Task) -> tuple[str, float]:
    return task.format_name, _deviation(task.name, task.shape)


def fill(task: Task) -> int:
    """Fill one task's bytes, and return how many."""
    target = np.memmap(task.path, np.uint8, "r+", task.offset, (task.count, task.unit))
    rng = np.random.default_rng([task.seed, zlib.crc32(task.name.encode()), task.offset])
    if len(task.shape) == 1:
        target[:] = _vector(task.name, task.count, rng).view(np.uint8).reshape(target.shape)
        return task.nbytes
    pool = _pool(task.format_name, _deviation(task.name, task.shape), task.experts, task.shape[-1], task.seed)
    slices = len(pool) // 2
    for first in range(0, task.count, slices):
        part = target[first : first + slices]
        start = int(rng.integers(len(pool) - len(part) + 1))
        part[:] = pool[start : start + len(part)]
    return task.nbytes


@lru_cache(maxsize=32)
def _pool(format_name: str, deviation: float, experts: int, used: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, zlib.crc32(f"{format_name} {deviation}".encode())])
    return table_pool(experts, used, rng) if format_name == "I32" else random_pool(format_name, deviation, rng)


def _vector(name: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """A float32 vector: ones for norms, zeros for router biases; others as they keep every gate open."""
    if name.endswith("norm.weight"):
        return np.ones(count, np.float32)
    if name.endswith(".bias"):
        return np.zeros(count, np.float32)
    spread, middle = (0.2, 0.6) if "_scale" in name else (0.5, 0.0)
    return (rng.standard_normal(count) * spread + middle).astype("<f4")


def _deviation(name: str, shape: tuple[int, ...]) -> float:
    """Standard deviation that keeps the variance of what a matrix multiplies; 1 for rows that are looked up."""
    if "token_embd" in name:
        return 1.0
    if "_ape" in name:
        return 0.7
    return float(shape[-1]) ** -0.5
