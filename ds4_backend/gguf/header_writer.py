"""A GGUF header packed by gguf-py's writer, from plain Python values. It knows no tensor data."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ds4_backend.errors import ConversionError


def pack_header(metadata: Mapping[str, Any], tensors: Sequence[tuple[str, tuple[int, ...], str, int]]) -> bytes:
    """Magic, keys and tensor infos, unpadded. `tensors`: name, row-major shape, format name, bytes; in file order.

    Raises ConversionError naming a key whose value GGUF cannot hold.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    with tempfile.TemporaryDirectory() as folder:
        writer = GGUFWriter(Path(folder) / "header", metadata["general.architecture"])
        for key, value in metadata.items():
            if key != "general.architecture":
                writer.add_key_value(key, *_typed(key, value))
        for name, shape, format_name, nbytes in tensors:
            kind = GGMLQuantizationType[format_name]
            writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        return (Path(folder) / "header").read_bytes()


def _typed(key: str, value: Any) -> tuple[Any, Any, Any]:
    """(value, GGUF type, element type) as gguf-py wants them."""
    from gguf import GGUFValueType as Kind

    if isinstance(value, np.ndarray):
        return value.tolist(), Kind.ARRAY, _numpy_kind(value.dtype)
    if isinstance(value, np.generic):
        return value.item(), _numpy_kind(value.dtype), None
    if isinstance(value, list | tuple):
        if not value:
            raise ConversionError(f"metadata key {key} is an empty list, which GGUF cannot hold")
        element = {str: Kind.STRING, bool: Kind.BOOL, int: Kind.INT32, float: Kind.FLOAT32}[type(value[0])]
        return list(value), Kind.ARRAY, element
    if isinstance(value, int) and not isinstance(value, bool) and not 0 <= value < 1 << 32:
        raise ConversionError(f"metadata key {key} is {value}, which does not fit an unsigned 32-bit number")
    kinds = {str: Kind.STRING, bool: Kind.BOOL, int: Kind.UINT32, float: Kind.FLOAT32}
    return value, kinds[type(value)], None


def _numpy_kind(dtype: np.dtype[Any]) -> Any:
    from gguf import GGUFValueType as Kind

    return Kind["BOOL" if dtype == np.bool_ else dtype.name.upper()]
