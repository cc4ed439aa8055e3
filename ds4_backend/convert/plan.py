"""Everything about a conversion that is settled before the first byte is written: geometry, tensors, formats, keys.

It reads headers and small JSON files only, no weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ds4_backend.convert import metadata
from ds4_backend.convert.checkpoint import Checkpoint, Source, open_checkpoint
from ds4_backend.convert.config import geometry_of, read_config
from ds4_backend.convert.imatrix import Imatrix, read_imatrix_file
from ds4_backend.convert.names import official_parts
from ds4_backend.convert.recipe import Fallback, choose_format
from ds4_backend.convert.tokenizer import tokenizer_metadata
from ds4_backend.errors import ConversionError
from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.schema import expected_tensors
from ds4_backend.gguf.writer import TensorPlan


@dataclass(frozen=True, slots=True)
class Plan:
    """One conversion: what is read, what is written in which format, and the notes made on the way."""

    geometry: Geometry
    checkpoint: Checkpoint
    tensors: tuple[TensorPlan, ...]
    fallbacks: tuple[Fallback, ...]
    metadata: dict[str, Any]
    imatrix: Imatrix | None
    notes: tuple[str, ...]


def plan_conversion(folder: Path, recipe: str, imatrix_path: Path | None) -> Plan:
    """Read and compare everything but the weights.

    Raises ConversionError naming the file, field or tensor that does not fit.
    """
    config = read_config(folder)
    geometry = geometry_of(config)
    checkpoint = open_checkpoint(folder, geometry.block_count)
    shapes = expected_tensors(geometry)
    _check_sources(checkpoint.sources, shapes, geometry.expert_count)
    chosen = {name: choose_format(name, shape, recipe) for name, shape in shapes.items()}
    tensors = tuple(TensorPlan(name, shapes[name], format_name) for name, (format_name, _) in chosen.items())
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
    keys |= metadata.sampling_metadata(folder) | metadata.source_metadata(folder, recipe, imatrix_path)
    return Plan(geometry, checkpoint, tensors, fallbacks, keys, imatrix, (*notes, *tokenizer_notes))


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
