"""From a Hugging Face folder to a GGUF file.

Order: headers and config are read, every tensor is found and its shape compared, sizes and disk space are known; only
then the first byte is written. Tensors stream through in batches of rows, so memory does not grow with the model.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ds4_backend import progress
from ds4_backend.convert import fp, metadata
from ds4_backend.convert.checkpoint import Checkpoint, Source, open_checkpoint
from ds4_backend.convert.config import geometry_of, read_config
from ds4_backend.convert.imatrix import Imatrix, importance_of, read_imatrix_file
from ds4_backend.convert.names import official_parts
from ds4_backend.convert.recipe import RECIPES, Fallback, choose_format
from ds4_backend.convert.tokenizer import tokenizer_metadata
from ds4_backend.errors import ConversionError
from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.schema import expected_tensors
from ds4_backend.gguf.writer import GGUFFile, TensorPlan, plan_layout

BATCH_VALUES = 1 << 23
"""Weights decoded at a time: 32 MiB of float32, one expert matrix of V4 Flash. Each worker holds one batch and what its
encoder needs, a few times that; see docs/convert.md for the measured bound."""

DIALECTS = ("preview", "0731")


@dataclass(frozen=True, slots=True)
class Report:
    """What a conversion did.

    `formats` maps a block format to the bytes stored in it; `left_out` names source tensors that no main model holds;
    `resumed` counts tensors taken over from an interrupted run.
    """

    path: Path
    recipe: str
    nbytes: int
    tensors: int
    formats: Mapping[str, int]
    fallbacks: tuple[Fallback, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    resumed: int


@dataclass(frozen=True, slots=True)
class _Job:
    """Everything that is settled before writing begins."""

    geometry: Geometry
    checkpoint: Checkpoint
    plans: tuple[TensorPlan, ...]
    fallbacks: tuple[Fallback, ...]
    metadata: dict[str, Any]
    imatrix: Imatrix | None
    notes: tuple[str, ...]


def convert(
    source: Path,
    out: Path,
    recipe: str,
    *,
    imatrix: Path | None = None,
    dialect: str | None = None,
    cache_simulation: bool | None = None,
    name: str | None = None,
    license: str | None = None,
    force: bool = False,
    report: progress.Report = progress.silent,
    workers: int | None = None,
) -> Report:
    """Convert the checkpoint folder `source` into the GGUF file `out`.

    `recipe` is one of f32, f16, q8, q4, q2, mxfp4 (docs/convert.md). `imatrix` weighs the routed experts' columns.
    `dialect` (`preview` or `0731`) and `cache_simulation` are written as the file's own answer to how it was trained.
    `name` and `license` replace what the folder says. `report` is called with the bytes done and in all. An interrupted
    run is continued by the same call.

    Raises ConversionError; `out` then does not exist, or is as it was before.
    """
    source, out = Path(source), Path(out)
    _check_arguments(source, out, recipe, dialect, force)
    job = _prepare(source, recipe, imatrix)
    job.metadata.update(_chosen(name, license, dialect, cache_simulation))
    layout = plan_layout(job.metadata, job.plans)
    with GGUFFile(out, layout, origin=_origin(job.checkpoint, imatrix)) as file:
        notes = (*job.notes, "an unfinished file of another conversion was replaced") if file.restarted else job.notes
        resumed = len(file.done)
        _write_tensors(file, job, report, workers or min(8, os.cpu_count() or 1))
        file.finish()
    formats: dict[str, int] = {}
    for plan in job.plans:
        formats[plan.format_name] = formats.get(plan.format_name, 0) + plan.nbytes
    left_out = job.checkpoint.left_out
    return Report(out, recipe, layout.nbytes, len(job.plans), formats, job.fallbacks, left_out, notes, resumed)


def _check_arguments(source: Path, out: Path, recipe: str, dialect: str | None, force: bool) -> None:
    if recipe not in RECIPES:
        raise ConversionError(f"unknown recipe {recipe!r}; known are {', '.join(RECIPES)}")
    if dialect is not None and dialect not in DIALECTS:
        raise ConversionError(f"unknown dialect {dialect!r}; known are {', '.join(DIALECTS)}")
    if not source.is_dir():
        raise ConversionError(f"{source} is no folder; give a Hugging Face model folder")
    if not out.parent.is_dir():
        raise ConversionError(f"the folder {out.parent} does not exist; create it first")
    if out.exists() and not force:
        raise ConversionError(f"{out} exists already; choose another name, or --force to replace it")


def _prepare(folder: Path, recipe: str, imatrix_path: Path | None) -> _Job:
    config = read_config(folder)
    geometry = geometry_of(config)
    checkpoint = open_checkpoint(folder, geometry.block_count)
    shapes = expected_tensors(geometry)
    _check_sources(checkpoint.sources, shapes, geometry.expert_count)
    chosen = {name: choose_format(name, shape, recipe) for name, shape in shapes.items()}
    plans = tuple(TensorPlan(name, shapes[name], format_name) for name, (format_name, _) in chosen.items())
    fallbacks = tuple(fallback for _, fallback in chosen.values() if fallback)
    imatrix = read_imatrix_file(imatrix_path) if imatrix_path else None
    notes: list[str] = []
    if imatrix_path and imatrix:
        notes += imatrix.check(shapes)
    tokenizer, tokenizer_notes = tokenizer_metadata(folder, config)
    label = metadata.size_label(shapes, geometry.expert_count)
    keys = metadata.general_metadata(folder, config, recipe, label) | metadata.model_metadata(geometry) | tokenizer
    if imatrix_path and imatrix:
        keys |= metadata.imatrix_metadata(imatrix_path, len(imatrix.entries), imatrix.chunks, imatrix.dataset)
    keys |= metadata.source_metadata(folder, recipe, imatrix_path)
    return _Job(geometry, checkpoint, plans, fallbacks, keys, imatrix, (*notes, *tokenizer_notes))


def _chosen(
    name: str | None, license: str | None, dialect: str | None, cache_simulation: bool | None
) -> dict[str, Any]:
    keys = {
        "general.name": name,
        "general.license": license,
        "ds4.dialect": dialect,
        "ds4.cache_simulation": cache_simulation,
    }
    return {key: value for key, value in keys.items() if value is not None}


def _check_sources(sources: Mapping[str, Source], shapes: Mapping[str, tuple[int, ...]], experts: int) -> None:
    """Every tensor is there, has the shape that the config asks for, and nothing is left over."""
    wanted: dict[str, tuple[int, ...]] = {}
    for gguf_name, shape in shapes.items():
        parts = official_parts(gguf_name, experts)
        wanted |= dict.fromkeys(parts, shape if len(shape) < 3 else shape[1:])
    missing = [name for name in wanted if name not in sources]
    unknown = [source.entry.name for name, source in sources.items() if name not in wanted]
    if missing:
        raise ConversionError(
            f"the checkpoint lacks {len(missing)} of {len(wanted)} tensors: {_some(missing)}"
            + (f"; and these are not known: {_some(unknown)}" if unknown else "; download the missing shards")
        )
    if unknown:
        raise ConversionError(
            f"the checkpoint holds {len(unknown)} tensors that DeepSeek V4 does not have: {_some(unknown)}"
        )
    for name, shape in wanted.items():
        if sources[name].shape != shape:
            raise ConversionError(
                f"tensor {sources[name].entry.name} has shape {list(sources[name].shape)}, but config.json asks for "
                f"{list(shape)}; config.json and weights are of different models"
            )


def _some(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _origin(checkpoint: Checkpoint, imatrix: Path | None) -> str:
    """Changes when the weights or the importance matrix are others; the weights themselves are not read for it."""
    digest = hashlib.sha256(imatrix.read_bytes() if imatrix else b"")
    for entry in checkpoint.entries():
        stat = entry.path.stat()
        digest.update(repr((entry.path.name, entry.name, entry.start, stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()


def _write_tensors(file: GGUFFile, job: _Job, report: progress.Report, workers: int) -> None:
    done = sum(plan.nbytes for plan in job.plans if plan.name in file.done)
    total = sum(plan.nbytes for plan in job.plans)
    report(done, total)
    with ThreadPoolExecutor(workers) as pool:
        for plan in job.plans:
            if plan.name not in file.done:
                chunks = _in_order(pool, _batches(plan, job), workers)
                file.write(plan.name, _counted(chunks, done, total, report))
                done += plan.nbytes


def _counted(chunks: Iterable[np.ndarray], done: int, total: int, report: progress.Report) -> Iterator[np.ndarray]:
    for chunk in chunks:
        yield chunk
        done += chunk.nbytes
        report(done, total)


def _in_order(pool: ThreadPoolExecutor, tasks: Iterable[Callable[[], np.ndarray]], ahead: int) -> Iterator[np.ndarray]:
    """Run tasks on the pool, at most `ahead` at a time, and give their results in order."""
    running: deque[Future[np.ndarray]] = deque()
    try:
        for task in tasks:
            if len(running) >= ahead:
                yield running.popleft().result()
            running.append(pool.submit(task))
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()


def _batches(plan: TensorPlan, job: _Job) -> Iterator[Callable[[], np.ndarray]]:
    """The tensor as tasks, each encoding some rows of one part (an expert, or the whole matrix)."""
    parts = official_parts(plan.name, job.geometry.expert_count)
    weights = importance_of(job.imatrix, plan.name, len(parts)) if job.imatrix else None
    for i, part in enumerate(parts):
        source = job.checkpoint.sources[part]
        importance = weights[i] if weights is not None else None
        for first, last in _row_ranges(source.shape):
            yield partial(_encode, source, first, last, plan.format_name, importance, job.geometry)


def _row_ranges(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Ranges of at most BATCH_VALUES values, in multiples of an FP8 tile."""
    width = int(np.prod(shape[1:], dtype=np.int64))
    step = max(1, BATCH_VALUES // width // fp.TILE) * fp.TILE
    for first in range(0, shape[0], step):
        yield first, min(first + step, shape[0])


def _encode(
    source: Source, first: int, last: int, format_name: str, importance: np.ndarray | None, geometry: Geometry
) -> np.ndarray:
    """Rows of a source in a block format: uint8 [r, row bytes] (or the plain numbers themselves)."""
    from ds4_backend.gguf.encode import quantize

    if format_name == "I32":
        return _expert_ids(source, geometry)[first:last]
    if format_name == "MXFP4" and source.is_fp4:
        return fp.fp4_to_mxfp4(*source.fp4(first, last))
    values = source.read(first, last)
    largest = float(np.abs(values).max(initial=0.0))
    if format_name in ("F16", "Q8_0") and largest > 65504 * (127 if format_name == "Q8_0" else 1):
        raise ConversionError(
            f"tensor {source.name} reaches {largest:.3g}, too large for {format_name}; use recipe f32"
        )
    return quantize(values, format_name, importance)


def _expert_ids(source: Source, geometry: Geometry) -> np.ndarray:
    ids = source.integers()
    if ids.min() < 0 or ids.max() >= geometry.expert_count:
        raise ConversionError(
            f"tensor {source.name} names experts {ids.min()} to {ids.max()}; there are {geometry.expert_count}"
        )
    return ids.astype(np.int32)
