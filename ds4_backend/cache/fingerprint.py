"""The name of a model for the cache: weights, and all that decides what their state means.

Hashed are every file's size and header (metadata, vocabulary, the list of tensors), the first, middle and last 4 KiB of
every tensor, the prompt dialect, the cache simulation and the layout of the exported state. So other weights of the
same shape never meet this model's state. It is a sample, not a proof: the full SHA-256 belongs to `download` and
`verify`. Not in it: file names, context size, sampler, who asks. It reads files by place; that an open GGUF is what it
says is taken on trust.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from ds4_backend.cache.keys import KEY_BYTES

SAMPLE_BYTES = 4096
_THREADS, _CHUNK = 8, 32
"""Reads in flight, as a disk answers many small ones at once; samples that one thread takes in a row."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of weights: its header is the first `header` bytes, its tensors lie at `tensors` (offset, length)."""

    path: Path
    header: int
    tensors: tuple[tuple[int, int], ...]


def weight_files(gguf: Any) -> tuple[WeightFile, ...]:
    """The files of an open GGUF: anything with `parts`, each with `path` and `header` (`data_start`, and `tensors` with
    `offset` and `nbytes`)."""
    return tuple(
        WeightFile(
            Path(part.path),
            part.header.data_start,
            tuple((part.header.data_start + info.offset, info.nbytes) for info in part.header.tensors),
        )
        for part in gguf.parts
    )


def fingerprint(files: Sequence[WeightFile], *, dialect: str, cache_simulation: bool, layout: str) -> bytes:
    """32 bytes. `layout` names the form of exported blocks and tails: row formats, dtypes, their version. Raises
    OSError where a file cannot be read or is shorter than its header says."""
    state = blake2b(digest_size=KEY_BYTES, person=b"ds4kv model 1")
    for word in (dialect, "simulated" if cache_simulation else "plain", layout):
        _add(state, word.encode())
    for file in files:
        _add_file(state, file)
    return state.digest()


def _add(state: blake2b, data: bytes) -> None:
    state.update(len(data).to_bytes(8, "little"))
    state.update(data)


def _add_file(state: blake2b, file: WeightFile) -> None:
    fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _add(state, os.fstat(fd).st_size.to_bytes(8, "little"))
        _add(state, _read(fd, 0, file.header))
        places = [place for tensor in file.tensors for place in _samples(*tensor)]
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead for 4 KiB
        chunks = [places[at : at + _CHUNK] for at in range(0, len(places), _CHUNK)]
        with ThreadPoolExecutor(_THREADS) as pool:
            for samples in pool.map(lambda chunk: [_read(fd, *place) for place in chunk], chunks):
                for sample in samples:
                    _add(state, sample)
    finally:
        os.close(fd)


def _samples(offset: int, nbytes: int) -> Iterator[tuple[int, int]]:
    size = min(SAMPLE_BYTES, nbytes)
    for start in (0, (nbytes - size) // 2, nbytes - size):
        yield offset + start, size


def _read(fd: int, offset: int, size: int) -> bytes:
    data = os.pread(fd, size, offset)
    while len(data) < size:
        more = os.pread(fd, size - len(data), offset + len(data))
        if not more:
            raise OSError(f"the file ends at byte {offset + len(data):,}, inside what its header announces")
        data += more
    return data
