"""The tensors of a folder of safetensors files, as raw bytes.

Only the headers are read; data stays memory-mapped. The safetensors package is not used for this: its numpy side has
no BF16 and no FP8, and here the stored bytes themselves are wanted. This module knows neither names nor models.
Format: u64 header length, a JSON header (name -> dtype, shape, data_offsets from the header's end), data.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ds4_backend.errors import ConversionError

ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E8M0": 1,
              "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1}  # fmt: skip
_LONGEST_HEADER = 100 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored tensor: where its bytes lie, and what they are."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int

    def raw(self) -> np.ndarray:
        """The bytes, memory-mapped and read-only: uint8 [*shape, item bytes], or [*shape] for 1-byte items."""
        size = ITEM_BYTES[self.dtype]
        shape = self.shape if size == 1 else (*self.shape, size)
        if self.nbytes == 0:
            return np.zeros(shape, np.uint8)
        return np.memmap(self.path, np.uint8, "r", self.start, shape)


def read_shards(folder: Path) -> dict[str, Entry]:
    """Every tensor of the folder's checkpoint by its stored name.

    The files are those of `model.safetensors.index.json` if it is there, else `model.safetensors`, else all
    `*.safetensors`. Raises ConversionError when a file is missing, cut short or malformed, or a name comes twice.
    """
    listed = _index(folder)
    entries: dict[str, Entry] = {}
    for path in _files(folder, listed):
        for entry in _read_header(path):
            if entry.name in entries:
                raise ConversionError(f"tensor {entry.name} is in both {entries[entry.name].path.name} and {path.name}")
            entries[entry.name] = entry
    lost = [name for name in listed if name not in entries]
    if lost:
        raise ConversionError(
            f"the index lists {len(lost)} tensors that no shard holds, the first is {lost[0]} "
            f"(should be in {listed[lost[0]]}); download the checkpoint again"
        )
    return entries


def _index(folder: Path) -> dict[str, str]:
    path = folder / "model.safetensors.index.json"
    if not path.exists():
        return {}
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(file) for name, file in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConversionError(f"{path} is no safetensors index (JSON with a weight_map)") from None


def _files(folder: Path, listed: dict[str, str]) -> list[Path]:
    if listed:
        paths = [folder / name for name in sorted(set(listed.values()))]
    elif (folder / "model.safetensors").exists():
        paths = [folder / "model.safetensors"]
    else:
        paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise ConversionError(f"{folder} holds no *.safetensors files; give a Hugging Face model folder")
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise ConversionError(f"{len(missing)} shards are missing in {folder}, the first is {missing[0]}")
    return paths


def _read_header(path: Path) -> Iterable[Entry]:
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LONGEST_HEADER):
            raise ConversionError(
                f"{path.name} is cut short or no safetensors file: its header of {length} bytes needs more than {size}"
            )
        try:
            header = json.loads(file.read(length))
        except ValueError:
            raise ConversionError(f"{path.name} is no safetensors file: its header is not JSON") from None
    if not isinstance(header, dict):
        raise ConversionError(f"{path.name} is no safetensors file: its header is no JSON object")
    return [_entry(path, name, info, 8 + length, size) for name, info in header.items() if name != "__metadata__"]


def _entry(path: Path, name: str, info: Any, base: int, size: int) -> Entry:
    try:
        dtype, shape = str(info["dtype"]), tuple(int(n) for n in info["shape"])
        first, last = (int(n) for n in info["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise ConversionError(f"{path.name}: the header entry of tensor {name} is malformed") from None
    if dtype not in ITEM_BYTES:
        raise ConversionError(f"tensor {name} in {path.name} has type {dtype}; readable are {', '.join(ITEM_BYTES)}")
    nbytes = prod(shape) * ITEM_BYTES[dtype]
    if min(shape, default=0) < 0 or not 0 <= first <= last or last - first != nbytes:
        raise ConversionError(
            f"{path.name}: tensor {name} of shape {list(shape)}, {dtype} takes {nbytes} bytes, "
            f"but its header says {first} to {last}"
        )
    if base + last > size:
        raise ConversionError(
            f"{path.name} is cut short: tensor {name} ends at byte {base + last}, the file at {size}; download it again"
        )
    return Entry(path, name, dtype, shape, base + first, last - first)
