"""The block formats that a GGUF tensor can be stored in: name, id, and bytes per block.

The table is gguf-py's own, read when first asked for, so that importing this module loads nothing. It knows sizes; it
does not know how to decode (`decode.py`) or encode.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ds4_backend.errors import FileError, UnsupportedType

_PLAIN = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8",
    "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Format:
    """How a row of values is stored: in blocks of `block_size` values, each taking `block_bytes` bytes."""

    name: str
    """The field's name for it, such as `Q4_K`."""
    type_id: int
    """GGUF's number for it."""
    block_size: int
    """Values in a block; 1 for plain numbers."""
    block_bytes: int

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The numpy dtype of a plain format (little-endian); None for blocks and for BF16, which numpy lacks."""
        plain = _PLAIN.get(self.name)
        return None if plain is None else np.dtype(plain)


FORMATS: dict[str, Format]
"""Every format that gguf-py knows, by name. Built on first use."""


def __getattr__(name: str) -> Any:
    if name == "FORMATS":
        return _by_name()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def format_of(type_id: int, tensor: str = "") -> Format:
    """The format with that GGUF type id. Raises UnsupportedType naming the id, and the tensor where one is given."""
    found = _by_id().get(type_id)
    if found is None:
        whose = f"tensor {tensor} has" if tensor else "there is"
        known = ", ".join(f.name for f in _by_id().values())
        raise UnsupportedType(
            f"{whose} type id {type_id}, which is no block format known here; known are {known}. "
            "Use another build of this model, or a newer ds4-backend"
        )
    return found


def row_bytes(format: Format, n: int) -> int:
    """Bytes of a row of `n` values. Raises FileError where `n` is no whole number of blocks."""
    if n <= 0 or n % format.block_size:
        raise FileError(f"a row of {n:,} values is no whole number of {format.name} blocks of {format.block_size}")
    return n // format.block_size * format.block_bytes


@cache
def _by_name() -> dict[str, Format]:
    from gguf.constants import GGML_QUANT_SIZES

    return {t.name: Format(t.name, int(t), size, nbytes) for t, (size, nbytes) in GGML_QUANT_SIZES.items()}


@cache
def _by_id() -> dict[int, Format]:
    return {f.type_id: f for f in _by_name().values()}
