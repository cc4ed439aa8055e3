"""The weights of one tensor, decoded, encoded and handed over in order, a batch of rows at a time.

It knows sources and block formats; it does not know where the bytes go.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ds4_backend.convert import fp
from ds4_backend.convert.checkpoint import Source
from ds4_backend.convert.imatrix import importance_of
from ds4_backend.convert.names import official_parts
from ds4_backend.convert.plan import Plan
from ds4_backend.errors import ConversionError
from ds4_backend.gguf.writer import TensorPlan

BATCH_VALUES = 1 << 23
"""Weights decoded at a time: 32 MiB of float32, which is one expert of V4 Flash. An expert is never split."""


def encoded(tensor: TensorPlan, plan: Plan) -> Iterator[np.ndarray]:
    """The tensor's bytes in order, one batch in memory at a time.

    Raises ConversionError naming a source tensor whose values cannot be stored.
    """
    parts = official_parts(tensor.name, plan.geometry.expert_count)
    weights = importance_of(plan.imatrix, tensor.name, len(parts)) if plan.imatrix else None
    for i, part in enumerate(parts):
        source = plan.checkpoint.sources[part]
        if tensor.format_name == "I32":
            yield _expert_ids(source, plan.geometry.expert_count)
            continue
        importance = weights[i] if weights is not None else None
        for first, last in _row_ranges(source.shape, whole=len(parts) > 1):
            yield _encode(source, first, last, tensor.format_name, importance)


def _row_ranges(shape: tuple[int, ...], whole: bool) -> Iterator[tuple[int, int]]:
    """All rows at once, or ranges of at most BATCH_VALUES values in multiples of an FP8 tile."""
    width = int(np.prod(shape[1:], dtype=np.int64))
    step = shape[0] if whole else max(1, BATCH_VALUES // width // fp.TILE) * fp.TILE
    for first in range(0, shape[0], step):
        yield first, min(first + step, shape[0])


def _encode(source: Source, first: int, last: int, format_name: str, importance: np.ndarray | None) -> np.ndarray:
    """Rows of a source in a block format, uint8 [r, row bytes]. FP4 becomes MXFP4 without passing through floats."""
    from ds4_backend.gguf.encode import quantize

    if format_name == "MXFP4" and source.is_fp4:
        return fp.fp4_to_mxfp4(*source.fp4(first, last))
    try:
        return quantize(source.read(first, last), format_name, importance)
    except ConversionError as error:
        start = f" from row {first}" if first else ""
        raise ConversionError(f"tensor {source.name} ({source.entry.path.name}){start}: {error}") from None


def _expert_ids(source: Source, expert_count: int) -> np.ndarray:
    """The hash table of a layer, int32 [V, experts used]."""
    ids = source.integers()
    if ids.min() < 0 or ids.max() >= expert_count:
        raise ConversionError(
            f"tensor {source.name} names experts {ids.min()} to {ids.max()}; there are {expert_count}"
        )
    return ids.astype(np.int32)
