"""Makes the index anew from the segments, when there is none or the one in force is damaged.

Headers are read and checked, payloads are not: those are verified whenever they are loaded. What cannot be found again
is gone: counters, labels and turn records. A block whose chain does not reach back to its model's root is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ds4_backend.cache import schema
from ds4_backend.cache.files import Files, folder_lock
from ds4_backend.cache.index import Index, Place, open_index
from ds4_backend.cache.keys import BLOCK_TOKENS, root_key, start_key
from ds4_backend.cache.records import Header, Kind, Use
from ds4_backend.cache.segments import HEAD_BYTES, scan, segment_names

GUESSED_GAIN = 4096
"""Tokens that a tail is taken to save, at most, where nobody remembers."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A record in a segment, without its tokens."""

    key: bytes
    parent: bytes
    fingerprint: bytes
    position: int
    kind: Kind
    use: Use
    start: bytes | None
    place: Place
    created: int

    @property
    def begins(self) -> bool:
        """Whether nothing lies before it but its model's root."""
        return self.position < (2 if self.kind is Kind.BLOCK else 1) * BLOCK_TOKENS


def rebuild(folder: Path, files: Files, broken: Path | None) -> Index:
    """A new index in place of `broken`; the one in force where another process was faster. Raises as `open_index`."""
    with folder_lock(folder, files):
        found = schema.generations(folder)
        if found and found[-1] != broken:
            return open_index(folder, files)
        path = schema.next_path(folder)
        draft = path.with_suffix(".new")
        schema.remove(draft, files)
        index = Index(draft, schema.create(draft, files), files)
        try:
            with index.transaction():
                _fill(index, folder, files)
        finally:
            index.close()  # the last connection: its log goes into the file
        files.rename(draft, path)
        for old in found:
            schema.remove(old, files)
        return open_index(folder, files)


def _fill(index: Index, folder: Path, files: Files) -> None:
    blocks: list[_Found] = []
    tails: list[_Found] = []
    for name in segment_names(folder):
        try:
            _scan(index, folder, name, files, blocks, tails)
        except OSError:  # no plain file, or not ours to read: what it holds is no longer stored
            continue
    stored: set[bytes] = set()
    for found in sorted(blocks, key=lambda found: found.position):
        if _is_rooted(found, stored):
            stored.add(found.key)
            index.add_block(
                found.key, found.parent, found.fingerprint, found.position, found.start, found.place, found.created
            )
    for found in tails:
        if _is_rooted(found, stored):
            gain = min(found.position, GUESSED_GAIN)
            index.add_tail(
                found.key, found.parent, found.fingerprint, found.position, found.use, gain, found.place, found.created
            )


def _scan(index: Index, folder: Path, name: str, files: Files, blocks: list[_Found], tails: list[_Found]) -> None:
    segment: int | None = None
    for offset, header in scan(folder / name, files):
        if segment is None:
            segment = index.add_segment(name, header.kind)
        place = Place(segment, name, offset, header.nbytes, header.payload)
        (blocks if header.kind is Kind.BLOCK else tails).append(_found(header, place))
        index.grow_segment(segment, offset + header.nbytes)
    if segment is not None:
        index.grow_segment(segment, HEAD_BYTES)


def _found(header: Header, place: Place) -> _Found:
    first = header.kind is Kind.BLOCK and header.position == BLOCK_TOKENS
    start = start_key(header.tokens) if first else None
    return _Found(
        header.key, header.parent, header.fingerprint, header.position, header.kind, header.use, start, place,
        header.created,
    )  # fmt: skip


def _is_rooted(found: _Found, stored: set[bytes]) -> bool:
    if found.begins:
        return found.parent == root_key(found.fingerprint)
    return found.parent in stored
