"""Writing a GGUF file tensor by tensor, so that an interrupted run continues where it stopped.

The layout is fixed before the first weight is known: names, shapes and formats give every offset. Bytes go to
`OUT.partial`; after each tensor the data is synced to disk and only then its name is noted in `OUT.partial.journal`.
`finish` renames the partial file to `OUT`. The header is packed by gguf-py. This module knows neither checkpoints nor
how blocks are encoded; it writes the bytes that it is given.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from ds4_backend.errors import ConversionError
from ds4_backend.gguf.header_writer import pack_header

ALIGNMENT = 32
"""Bytes; GGUF's default, which files need not state."""


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One tensor to be written: `shape` row-major, `format_name` as in `formats.FORMATS`."""

    name: str
    shape: tuple[int, ...]
    format_name: str

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's data, without padding."""
        from ds4_backend.gguf.formats import FORMATS, row_bytes

        rows = int(np.prod(self.shape[:-1], dtype=np.int64))
        return rows * row_bytes(FORMATS[self.format_name], self.shape[-1])


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies: the packed header (padded), and each tensor's absolute offset."""

    header: bytes
    plans: Mapping[str, TensorPlan]
    offsets: Mapping[str, int]
    nbytes: int


def plan_layout(metadata: Mapping[str, Any], plans: Sequence[TensorPlan]) -> Layout:
    """Pack the header and place the tensors in the order given.

    Metadata values are Python or numpy values; their kind decides the GGUF type: bool, str, int -> u32, float -> f32,
    numpy scalars and arrays -> their own dtype, sequences of str, int (i32) or float (f32) -> arrays.
    """
    header = _padded(pack_header(metadata, [(p.name, p.shape, p.format_name, p.nbytes) for p in plans]))
    offsets, end = {}, len(header)
    for plan in plans:
        offsets[plan.name] = end
        end += _pad(plan.nbytes)
    return Layout(header, {plan.name: plan for plan in plans}, offsets, end)


class GGUFFile:
    """An open, partly written file. Use as a context manager; leaving it without `finish` keeps the partial file.

    `origin` is any text that changes when the data would change (the sources' sizes and times, say). A partial file
    left by a run with the same header and origin is continued, any other is started again.
    """

    def __init__(self, path: Path, layout: Layout, *, origin: str = "") -> None:
        self.path, self.layout = path, layout
        self.partial = path.with_name(path.name + ".partial")
        self.journal = path.with_name(path.name + ".partial.journal")
        check_free_space(self.partial, layout.nbytes)
        self._stamp = hashlib.sha256(layout.header + origin.encode()).hexdigest()
        self._file: BinaryIO = open(self.partial, "r+b" if self.partial.exists() else "w+b")  # noqa: SIM115
        try:
            _lock(self._file, self.path)
            self.restarted = self.partial.stat().st_size > 0
            self.done: set[str] = self._recorded()
            self.restarted = self.restarted and not self.done
            if not self.done:
                self._start()
            self._rewrite_journal()
            self._log = open(self.journal, "a", encoding="utf-8")  # noqa: SIM115
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._log.close()
        self._file.close()

    def write(self, name: str, chunks: Iterable[np.ndarray]) -> None:
        """Write one tensor's bytes, in order; any dtypes, taken as raw bytes. Durable when it returns.

        Raises ConversionError when the chunks hold more or fewer bytes than the layout says.
        """
        wanted, written = self.layout.plans[name].nbytes, 0
        self._file.seek(self.layout.offsets[name])
        for chunk in chunks:
            written += chunk.nbytes
            if written > wanted:
                break
            self._file.write(np.ascontiguousarray(chunk).data)
        if written != wanted:
            raise ConversionError(f"tensor {name} came out as {written} bytes instead of {wanted}; please report this")
        self._sync()
        self._log.write(json.dumps({"done": name}) + "\n")
        self._log.flush()
        os.fsync(self._log.fileno())
        self.done.add(name)

    def finish(self) -> None:
        """Put the complete file in its place.

        Raises ConversionError when tensors are missing.
        """
        missing = [name for name in self.layout.plans if name not in self.done]
        if missing:
            raise ConversionError(f"{len(missing)} tensors were never written, the first is {missing[0]}")
        self._sync()
        os.replace(self.partial, self.path)
        _sync_folder(self.path.parent)
        self.journal.unlink(missing_ok=True)

    def _recorded(self) -> set[str]:
        """Names that the journal vouches for; empty when the partial file belongs to something else."""
        if not self.journal.exists() or self.partial.stat().st_size != self.layout.nbytes:
            return set()
        entries = list(_journal_entries(self.journal.read_text(encoding="utf-8", errors="replace")))
        if not entries or entries[0] != {"stamp": self._stamp}:
            return set()
        self._file.seek(0)
        if self._file.read(len(self.layout.header)) != self.layout.header:
            return set()
        return {entry["done"] for entry in entries[1:] if entry.get("done") in self.layout.plans}

    def _start(self) -> None:
        self.journal.unlink(missing_ok=True)
        self._file.truncate(0)
        self._file.seek(0)
        self._file.write(self.layout.header)
        self._file.truncate(self.layout.nbytes)
        self._sync()

    def _rewrite_journal(self) -> None:
        """A clean journal, without the half line that a crash may have left at its end."""
        fresh = self.journal.with_name(self.journal.name + ".new")
        lines = [{"stamp": self._stamp}, *({"done": name} for name in self.layout.plans if name in self.done)]
        with open(fresh, "w", encoding="utf-8") as log:
            log.write("".join(json.dumps(line) + "\n" for line in lines))
            log.flush()
            os.fsync(log.fileno())
        os.replace(fresh, self.journal)

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def write_gguf(
    path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, tuple[str, tuple[int, ...], np.ndarray]]
) -> None:
    """Write a whole small file at once: name -> (format name, row-major shape, encoded bytes)."""
    plans = [TensorPlan(name, shape, format_name) for name, (format_name, shape, _) in tensors.items()]
    with GGUFFile(path, plan_layout(metadata, plans), origin=os.urandom(8).hex()) as out:
        for name, (_, _, data) in tensors.items():
            out.write(name, [data])
        out.finish()


def check_free_space(partial: Path, nbytes: int) -> None:
    """Raise ConversionError when the disk cannot take what `partial` still lacks of `nbytes`."""
    held = partial.stat().st_blocks * 512 if partial.exists() else 0  # a sparse file's real size
    free, needed = shutil.disk_usage(partial.parent).free, max(0, nbytes - held)
    if needed > free:
        raise ConversionError(
            f"the file needs {needed / 1e9:.1f} GB more and the disk of {partial.parent} has {free / 1e9:.1f} GB free; "
            "make room or choose another place or a smaller recipe"
        )


def _journal_entries(text: str) -> Iterable[dict[str, str]]:
    """Whole lines only: a line cut off by a crash ends the journal."""
    for line in text.split("\n")[:-1]:
        try:
            yield json.loads(line)
        except ValueError:
            return


def _lock(file: BinaryIO, path: Path) -> None:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConversionError(f"another conversion is writing {path}; wait for it or choose another place") from None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _pad(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _padded(header: bytes) -> bytes:
    return header + bytes(_pad(len(header)) - len(header))
