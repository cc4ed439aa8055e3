"""Open a GGUF file: memory-mapped, checked in full before anything is used, in one part or several.

It knows files and tensors, not what they mean: geometry and the list of tensors a model needs are elsewhere.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from types import TracebackType
from typing import Any

import numpy as np

from ds4_backend.errors import FileError, UnsupportedType
from ds4_backend.gguf.decode import check_decodable, dequantize
from ds4_backend.gguf.formats import Format, row_bytes
from ds4_backend.gguf.header import Header, parse_header
from ds4_backend.gguf.layout import TensorInfo
from ds4_backend.gguf.split import check_parts, part_paths


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor in an open file. Its bytes are read from disk when they are touched."""

    name: str
    shape: tuple[int, ...]
    """Row-major: weights [out, in], experts [E, out, in]."""
    format: Format
    data: np.ndarray
    """uint8 [*shape[:-1], row_bytes], a read-only view of the file."""

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.data.nbytes

    def dequantize(self) -> np.ndarray:
        """The values as a new float32 array of `shape`. Raises UnsupportedType naming the tensor and its type."""
        check_decodable(self.format, f"tensor {self.name}")
        return dequantize(self.data, self.format)

    def array(self) -> np.ndarray:
        """The values of a plain tensor (F16, F32, F64, I8 to I64) as a read-only view of `shape`, without a copy.

        Raises UnsupportedType naming the tensor where it is stored in blocks, or as BF16, which numpy lacks.
        """
        dtype = self.format.dtype
        if dtype is None:
            raise UnsupportedType(
                f"tensor {self.name} is stored as {self.format.name}, which has no numpy type; dequantize it instead"
            )
        return self.data.view(dtype)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Raw rows `start` to `stop` (not included) of all rows in file order: uint8 [stop - start, row_bytes], a view.

        Raises IndexError outside the tensor's rows.
        """
        rows = self.data.reshape(-1, self.data.shape[-1])
        if not 0 <= start <= stop <= len(rows):
            raise IndexError(f"rows {start} to {stop} of tensor {self.name}, which has {len(rows):,}")
        return rows[start:stop]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One file on disk: the whole GGUF, or one part of a split one."""

    path: Path
    header: Header
    map: mmap


@dataclass(frozen=True, slots=True, eq=False)
class GGUF:
    """An open GGUF file. Close it, or use it as a context manager; views already taken stay valid after closing."""

    metadata: dict[str, Any]
    """Python numbers, bools and strings; number arrays as read-only numpy arrays; string arrays as lists."""
    tensors: dict[str, Tensor]
    """By name, in file order."""
    parts: tuple[Part, ...]
    nbytes: int
    """Size on disk of all parts."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files it is made of, in order."""
        return tuple(part.path for part in self.parts)

    @property
    def value_types(self) -> dict[str, str]:
        """Each metadata key's type as stored, such as `u32` or `array of string`."""
        return self.parts[0].header.value_types

    def close(self) -> None:
        """Let go of the file. Its memory map goes with the last view of a tensor. May be called again."""
        self.tensors.clear()
        for part in self.parts:
            _close(part.map)

    def __enter__(self) -> GGUF:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_gguf(path: str | os.PathLike[str]) -> GGUF:
    """Open a GGUF file, or all parts of a split one given any part of it.

    Every count, offset, type and shape is held against the file's size first. Raises FileError (UnsupportedType for an
    unknown block format) naming the file, what is wrong with it, and what to do.
    """
    with ExitStack() as opened:
        parts = []
        for part_path in part_paths(Path(path)):
            part = _open_part(part_path)
            opened.callback(_close, part.map)
            parts.append(part)
        check_parts([p.path for p in parts], [p.header for p in parts])
        opened.pop_all()
    tensors = {info.name: tensor for part in parts for info, tensor in _tensors(part)}
    return GGUF(parts[0].header.metadata, tensors, tuple(parts), sum(len(part.map) for part in parts))


def _open_part(path: Path) -> Part:
    mapped = _map(path)
    try:
        return Part(path, parse_header(mapped), mapped)
    except FileError as error:
        _close(mapped)
        raise type(error)(f"{path}: {error}") from None


def _map(path: Path) -> mmap:
    try:
        about = path.stat()
        if not S_ISREG(about.st_mode):  # asked before opening, which would wait for a pipe's other end
            raise FileError(f"{path} is {'a folder' if S_ISDIR(about.st_mode) else 'no plain file'}; name a GGUF file")
        if about.st_size == 0:
            raise FileError(f"{path}: the file is empty; run `ds4-backend download` again")
        with path.open("rb") as file:
            return mmap(file.fileno(), 0, access=ACCESS_READ)
    except (OSError, ValueError) as error:
        raise FileError(_cannot_open(path, error)) from None


def _cannot_open(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path}: there is no such file"
    return f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}"


def _tensors(part: Part) -> list[tuple[TensorInfo, Tensor]]:
    whole = np.frombuffer(part.map, np.uint8)
    return [(info, _tensor(info, whole, part.header.data_start)) for info in part.header.tensors]


def _tensor(info: TensorInfo, whole: np.ndarray, data_start: int) -> Tensor:
    start = data_start + info.offset
    shape = (*info.shape[:-1], row_bytes(info.format, info.shape[-1]))
    return Tensor(info.name, info.shape, info.format, whole[start : start + info.nbytes].reshape(shape))


def _close(mapped: mmap) -> None:
    # A map with views of it still alive refuses to close; it is freed with the last of them.
    with suppress(BufferError):
        mapped.close()
