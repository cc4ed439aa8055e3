"""Importance matrices: how much each input column of each routed expert matters, in llama.cpp's legacy .dat format.

Format, little-endian: i32 count; per entry i32 name length, name, i32 calls, i32 n, n float32 = calls x mean square;
then, optionally, i32 chunks, i32 length and name of the text file. A routed tensor's entry holds one column vector per
expert, in id order. It knows neither the model nor how the numbers are gathered.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ds4_backend.errors import ConversionError


@dataclass(frozen=True, slots=True)
class Imatrix:
    """Mean squared inputs by GGUF tensor name: float32 [E, n] (E = 1 for plain tensors); a row of zeros = no data.

    `chunks` is how many pieces of text were run, `dataset` the text file's name.
    """

    entries: Mapping[str, np.ndarray]
    chunks: int = 0
    dataset: str = ""

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
        """Compare with the network's tensors; returns notes on what lacks data.

        Raises ConversionError when a routed tensor has no entry or one of another size.
        """
        notes = []
        for name, shape in shapes.items():
            if len(shape) != 3:
                continue
            if name not in self.entries:
                raise ConversionError(f"the imatrix has no entry for {name}; it was made with another model")
            found, wanted = self.entries[name].size, shape[0] * shape[2]
            if found != wanted:
                raise ConversionError(
                    f"the imatrix entry {name} holds {found} values, but {shape[0]} experts of {shape[2]} inputs are "
                    f"{wanted}; it was made with another model"
                )
            silent = np.flatnonzero(self.entries[name].reshape(shape[0], shape[2]).max(axis=1) == 0)
            if len(silent):
                ids = ", ".join(map(str, silent[:8])) + (" ..." if len(silent) > 8 else "")
                notes.append(f"{name}: no data for {len(silent)} experts ({ids}), the mean of the others is used")
        return notes


def importance_of(imatrix: Imatrix, name: str, experts: int) -> np.ndarray | None:
    """Column weights float32 [experts, n] of a tensor, or None; experts without data get the mean of the others."""
    if name not in imatrix.entries:
        return None
    weights = imatrix.entries[name].reshape(experts, -1)
    known = weights.max(axis=1) > 0
    mean = weights[known].mean(axis=0) if known.any() else np.ones(weights.shape[1], np.float32)
    return np.where(known[:, None], weights, mean).astype(np.float32)


def write_imatrix(path: Path, imatrix: Imatrix) -> None:
    """Write the legacy format; every entry counts as called once, so its values are the means themselves."""
    parts = [struct.pack("<i", len(imatrix.entries))]
    for name, values in imatrix.entries.items():
        parts += [_text(name), struct.pack("<ii", 1, values.size), values.astype("<f4").tobytes()]
    parts += [struct.pack("<i", imatrix.chunks), _text(imatrix.dataset)]
    fresh = path.with_name(path.name + ".partial")
    fresh.write_bytes(b"".join(parts))
    fresh.replace(path)


def read_imatrix(path: Path, experts: int = 1) -> dict[str, np.ndarray]:
    """The entries of an imatrix file, each float32 [experts, n].

    Raises ConversionError as `read_imatrix_file` does, and when an entry does not divide among the experts.
    """
    entries = read_imatrix_file(path).entries
    for name, values in entries.items():
        if values.size % experts:
            raise ConversionError(f"{path}: {name} holds {values.size} values, not a multiple of {experts} experts")
    return {name: values.reshape(experts, -1) for name, values in entries.items()}


def read_imatrix_file(path: Path) -> Imatrix:
    """Read and check a legacy imatrix file; entries come flat, float32 [values].

    Raises ConversionError when it is missing, no such file, cut short, or holds negative or non-finite numbers.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConversionError(f"cannot read the imatrix {path}: {error.strerror}") from None
    if data[:4] == b"GGUF":
        raise ConversionError(
            f"{path} is a GGUF imatrix; only the older .dat format is read (llama-imatrix can write it)"
        )
    reader = _Reader(path, data)
    count = reader.integer()
    if not 0 < count < 1 << 20:
        raise ConversionError(f"{path} is no imatrix file: it claims {count} entries")
    entries = dict(reader.entry() for _ in range(count))
    if reader.at == len(data):
        return Imatrix(entries)
    return Imatrix(entries, max(0, reader.integer()), reader.text())


class _Reader:
    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data, self.at = path, data, 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise ConversionError(f"the imatrix {self.path} is cut short or damaged at byte {self.at}")
        self.at += count
        return self.data[self.at - count : self.at]

    def integer(self) -> int:
        return int(struct.unpack("<i", self.take(4))[0])

    def text(self) -> str:
        return self.take(self.integer()).decode("utf-8", errors="replace")

    def entry(self) -> tuple[str, np.ndarray]:
        name, calls, size = self.text(), self.integer(), self.integer()
        values = np.frombuffer(self.take(4 * size), "<f4") / np.float32(max(calls, 1))
        if not np.isfinite(values).all() or (values < 0).any():
            raise ConversionError(f"the imatrix {self.path}: entry {name} holds negative or non-finite values")
        return name, values


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<i", len(data)) + data
