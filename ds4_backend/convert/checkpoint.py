"""A checkpoint folder as official-named tensors that decode to float32 a few rows at a time.

Official and transformers names may be mixed. FP8 weights (with their `.scale` tiles) and packed FP4 experts are decoded
on the way. It knows no GGUF formats and no geometry beyond the number of layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ds4_backend.convert import fp
from ds4_backend.convert.names import expert_name, is_left_out, official_name, stacked_experts
from ds4_backend.convert.shards import Entry, read_shards
from ds4_backend.errors import ConversionError

_ITEMS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


@dataclass(frozen=True, slots=True)
class Source:
    """One official tensor: the stored entry, the slice of it that is meant, and its scales if it has any.

    `expert` and `first_row` pick one expert's rows out of transformers' stacked [E, rows, in] tensors.
    """

    name: str
    entry: Entry
    shape: tuple[int, ...]
    scale: Entry | None = None
    expert: int | None = None
    first_row: int = 0

    @property
    def is_fp4(self) -> bool:
        """Whether the weights are packed FP4, two inputs to a byte."""
        return self.scale is not None and self.entry.dtype in ("I8", "U8")

    def read(self, first: int, last: int) -> np.ndarray:
        """Rows `first` to `last` (of the first axis) as float32; `first` must be a multiple of 128.

        Values may be NaN where the stored ones are. Raises ConversionError for a type that holds no weights.
        """
        if self.is_fp4:
            return fp.decode_fp4(*self.fp4(first, last))
        raw = self.entry.raw() if self.expert is None else self.entry.raw()[self.expert]
        rows = raw[self.first_row + first : self.first_row + last]
        if self.entry.dtype == "F8_E4M3":
            return self._decode_fp8(rows, first)
        if self.entry.dtype == "BF16":
            return fp.decode_bf16(rows.view(np.uint16)[..., 0])
        if self.entry.dtype not in _ITEMS:
            raise ConversionError(
                f"type {self.entry.dtype} without a scale holds no weights; readable are {', '.join(_ITEMS)}, BF16, "
                "F8_E4M3 and packed FP4 (I8), the last two with a .scale"
            )
        with np.errstate(over="ignore"):
            return rows.view(_ITEMS[self.entry.dtype])[..., 0].astype(np.float32)

    def integers(self) -> np.ndarray:
        """All of an integer tensor as int64."""
        if self.entry.dtype not in ("I64", "I32", "I16"):
            raise ConversionError(f"tensor {self.name} should hold integers, but its type is {self.entry.dtype}")
        item = {"I64": np.int64, "I32": np.int32, "I16": np.int16}[self.entry.dtype]
        return self.entry.raw().view(item)[..., 0].astype(np.int64)

    def fp4(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a packed FP4 tensor: bytes uint8 [r, in/2] and E8M0 codes uint8 [r, in/32]."""
        assert self.scale is not None
        scales = self.scale.raw()[first:last]
        if (scales == 255).any():
            raise ConversionError(f"tensor {self.scale.name} ({self.scale.path.name}) holds NaN scales")
        return np.asarray(self.entry.raw()[first:last]), np.asarray(scales)

    def _decode_fp8(self, rows: np.ndarray, first: int) -> np.ndarray:
        if self.scale is None:
            raise ConversionError(f"FP8 tensor {self.name} lacks its scale {_scale_name(self.name)}")
        raw = self.scale.raw()[first // fp.TILE : -(-(first + len(rows)) // fp.TILE)]
        scales = fp.E8M0[raw] if self.scale.dtype == "F8_E8M0" else raw.view(np.float32)[..., 0]
        return fp.decode_fp8(rows, scales)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Official name -> source; `left_out` names what a main model does not hold (multi-token prediction)."""

    sources: dict[str, Source]
    left_out: tuple[str, ...]

    def entries(self) -> list[Entry]:
        """Every stored tensor that is read, once."""
        used = {}
        for source in self.sources.values():
            for entry in (source.entry, source.scale):
                if entry is not None:
                    used[entry.name] = entry
        return list(used.values())


def open_checkpoint(folder: Path, layer_count: int) -> Checkpoint:
    """Read the headers of a checkpoint folder.

    Raises ConversionError for missing, cut or malformed shards, two sources of one tensor, and scales that do not fit.
    """
    entries = read_shards(folder)
    left_out = tuple(name for name in entries if is_left_out(name, layer_count))
    scales = {official_name(name): entries[name] for name in entries if name.endswith(".scale")}
    sources: dict[str, Source] = {}
    for name, entry in entries.items():
        if name in left_out or _scales_something(official_name(name), entries):
            continue
        for source in _sources(entry, scales):
            if source.name in sources:
                other = sources[source.name].entry.name
                raise ConversionError(f"tensors {other} and {name} are both {source.name}; keep one naming scheme")
            sources[source.name] = source
    return Checkpoint(sources, left_out)


def _sources(entry: Entry, scales: dict[str, Entry]) -> Iterator[Source]:
    stack = stacked_experts(entry.name)
    if stack is None:
        name = official_name(entry.name)
        scale = scales.get(_scale_name(name)) if name.endswith(".weight") else None
        yield _with_scale(name, entry, scale)
        return
    layer, parts = stack
    if len(entry.shape) != 3 or entry.shape[1] % len(parts):
        raise ConversionError(
            f"tensor {entry.name} has shape {list(entry.shape)}; stacked experts have three axes, "
            f"the second a multiple of {len(parts)}"
        )
    rows = entry.shape[1] // len(parts)
    for expert in range(entry.shape[0]):
        for i, part in enumerate(parts):
            name = expert_name(layer, expert, part)
            yield Source(name, entry, (rows, entry.shape[2]), expert=expert, first_row=i * rows)


def _with_scale(name: str, entry: Entry, scale: Entry | None) -> Source:
    """The source with its logical shape; checks that the scale has one code per tile or group."""
    if scale is None:
        return Source(name, entry, entry.shape)
    shape = entry.shape if entry.dtype == "F8_E4M3" else (*entry.shape[:-1], 2 * entry.shape[-1])
    if entry.dtype == "F8_E4M3":
        wanted = tuple(-(-n // fp.TILE) for n in shape)
    elif entry.dtype in ("I8", "U8"):
        wanted = (*shape[:-1], shape[-1] // fp.GROUP)
    else:
        raise ConversionError(f"tensor {name} has type {entry.dtype} and a scale; only FP8 and packed FP4 have scales")
    types = ("F8_E8M0", "F32") if entry.dtype == "F8_E4M3" else ("F8_E8M0", "U8")
    if len(shape) != 2 or scale.shape != wanted or scale.dtype not in types:
        raise ConversionError(
            f"scale {scale.name} is {scale.dtype} of shape {list(scale.shape)}; {name} ({entry.dtype}, "
            f"{list(entry.shape)}) needs {types[0]} of shape {list(wanted)}"
        )
    return Source(name, entry, shape, scale)


def _scale_name(weight: str) -> str:
    return weight.removesuffix(".weight") + ".scale"


def _scales_something(name: str, entries: dict[str, Entry]) -> bool:
    return name.endswith(".scale") and name.removesuffix(".scale") + ".weight" in entries
