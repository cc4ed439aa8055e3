"""From a Hugging Face folder to a GGUF file.

Order: headers and config are read, every tensor is found and its shape compared, sizes and disk space are known; only
then the first byte is written. Tensors stream through in batches of rows, so memory does not grow with the model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ds4_backend import progress
from ds4_backend.convert.checkpoint import Checkpoint
from ds4_backend.convert.plan import Plan, plan_conversion
from ds4_backend.convert.recipe import RECIPES, Fallback
from ds4_backend.convert.stream import encoded
from ds4_backend.errors import ConversionError
from ds4_backend.gguf.writer import GGUFFile, plan_layout

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
    plan = plan_conversion(source, recipe, imatrix)
    plan.metadata.update(_chosen(name, license, dialect, cache_simulation))
    layout = plan_layout(plan.metadata, plan.tensors)
    with GGUFFile(out, layout, origin=_origin(plan.checkpoint, imatrix)) as file:
        notes = (*plan.notes, "an unfinished file of another conversion was replaced") if file.restarted else plan.notes
        resumed = len(file.done)
        _write_tensors(file, plan, report)
        file.finish()
    left_out = plan.checkpoint.left_out
    count, formats = len(plan.tensors), _bytes_by_format(plan)
    return Report(out, recipe, layout.nbytes, count, formats, plan.fallbacks, left_out, notes, resumed)


def _bytes_by_format(plan: Plan) -> dict[str, int]:
    formats: dict[str, int] = {}
    for tensor in plan.tensors:
        formats[tensor.format_name] = formats.get(tensor.format_name, 0) + tensor.nbytes
    return formats


def _check_arguments(source: Path, out: Path, recipe: str, dialect: str | None, force: bool) -> None:
    if recipe not in RECIPES:
        raise ConversionError(f"unknown recipe {recipe!r}; known are {', '.join(RECIPES)}")
    if dialect is not None and dialect not in DIALECTS:
        raise ConversionError(f"unknown dialect {dialect!r}; known are {', '.join(DIALECTS)}")
    if not source.is_dir():
        raise ConversionError(f"{source} is no folder; give a Hugging Face model folder")
    if not out.parent.is_dir():
        raise ConversionError(f"the folder {out.parent} does not exist; create it first")
    if out.is_dir():
        raise ConversionError(f"{out} is a folder; name the .gguf file to write")
    if out.exists() and not force:
        raise ConversionError(f"{out} exists already; choose another name, or --force to replace it")


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


def _origin(checkpoint: Checkpoint, imatrix: Path | None) -> str:
    """Changes when the weights or the importance matrix are others; the weights themselves are not read for it."""
    digest = hashlib.sha256(imatrix.read_bytes() if imatrix else b"")
    for entry in checkpoint.entries():
        stat = entry.path.stat()
        digest.update(repr((entry.path.name, entry.name, entry.start, stat.st_size, stat.st_mtime_ns)).encode())
    return digest.hexdigest()


def _write_tensors(file: GGUFFile, plan: Plan, report: progress.Report) -> None:
    done = sum(tensor.nbytes for tensor in plan.tensors if tensor.name in file.done)
    total = sum(tensor.nbytes for tensor in plan.tensors)
    report(done, total)
    for tensor in plan.tensors:
        if tensor.name not in file.done:
            file.write(tensor.name, _counted(encoded(tensor, plan), done, total, report))
            done += tensor.nbytes


def _counted(chunks: Iterable[np.ndarray], done: int, total: int, report: progress.Report) -> Iterator[np.ndarray]:
    for chunk in chunks:
        yield chunk
        done += chunk.nbytes
        report(done, total)
