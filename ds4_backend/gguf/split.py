"""Files in several parts, `NAME-00001-of-0000N.gguf`: which parts belong together, and whether they do.

Part 1 holds the metadata; each part holds `split.no` (from 0), `split.count` and `split.tensors.count` (of all parts),
as llama.cpp's splitter writes them. It opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from ds4_backend.errors import FileError
from ds4_backend.gguf.cursor import FETCH_AGAIN
from ds4_backend.gguf.header import Header

NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"

_PART_NAME = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


def part_paths(path: Path) -> tuple[Path, ...]:
    """All parts of the file that `path` is a part of, in order; just `path` where its name is no part's.

    Raises FileError naming the parts that are missing, or where the numbers in the name cannot be.
    """
    match = _PART_NAME.fullmatch(path.name)
    if match is None:
        return (path,)
    part, count = int(match["part"]), int(match["count"])
    if not 1 <= part <= count:
        raise FileError(f"{path} claims to be part {part} of {count}: there is no such part")
    paths = tuple(path.with_name(f"{match['stem']}-{i:05}-of-{count:05}.gguf") for i in range(1, count + 1))
    missing = [p.name for p in paths if not p.exists()]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise FileError(
            f"{len(missing)} of {count} parts are missing in {path.parent}: {', '.join(missing[:5])}{more}; "
            "run `ds4-backend download` again, or put all parts into one folder"
        )
    return paths


def check_parts(paths: Sequence[Path], headers: Sequence[Header]) -> None:
    """Hold each part's own numbers against its name and the other parts. Raises FileError naming the part."""
    for index, (path, header) in enumerate(zip(paths, headers, strict=True)):
        _check_part(path, header.metadata, index, len(paths))
    if NUMBER not in headers[0].metadata:
        return
    found = sum(len(header.tensors) for header in headers)
    for path, header in zip(paths, headers, strict=True):
        claimed = header.metadata.get(TENSORS)
        if not _is_count(claimed) or claimed != found:
            raise FileError(
                f"{path}: {TENSORS} is {claimed!r}, but the parts hold {found:,} tensors together; "
                "they are not of one build. Run `ds4-backend download` again"
            )
    _check_names(paths, headers)


def _check_part(path: Path, metadata: dict[str, Any], index: int, count: int) -> None:
    number, total = (metadata.get(key) for key in (NUMBER, COUNT))
    if number is None and total is None and count == 1:
        return
    if not _is_count(number) or not _is_count(total):
        raise FileError(f"{path}: {NUMBER} is {number!r} and {COUNT} is {total!r}; a part needs both; {FETCH_AGAIN}")
    if (number, total) != (index, count):
        name = f"NAME-{number + 1:05}-of-{total:05}.gguf"
        raise FileError(
            f"{path} is part {number + 1} of {total} by its metadata, but part {index + 1} of {count} by its name; "
            + (FETCH_AGAIN if count > 1 else f"give it back its name, {name}, beside the other parts")
        )


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_names(paths: Sequence[Path], headers: Sequence[Header]) -> None:
    owner: dict[str, Path] = {}
    for path, header in zip(paths, headers, strict=True):
        for info in header.tensors:
            if info.name in owner:
                raise FileError(f"tensor {info.name} stands in two parts, {owner[info.name].name} and {path.name}")
            owner[info.name] = path
