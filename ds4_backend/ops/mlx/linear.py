"""Matrices as raw blocks on the device, and products with them. It knows no network.

Memory: a product decodes at most `CHUNK_VALUES` weights at a time (64 MiB of float32) and is evaluated before the next
chunk; with the decoder's own steps that took 64 MiB (F16) to 153 MiB (IQ2_XXS) on MLX's CPU backend. Only products
with less than `LAZY_VALUES` weights (4 MiB) stay lazy.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ds4_backend.errors import UnsupportedType
from ds4_backend.gguf.reader import Tensor
from ds4_backend.ops.mlx.blocks import DECODERS, decode
from ds4_backend.ops.mlx.upload import upload

CHUNK_VALUES = 1 << 24
LAZY_VALUES = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """A matrix as the file holds it: raw uint8 [out, row_bytes], or [E, out, row_bytes] for experts."""

    raw: mx.array
    format_name: str
    columns: int
    """Values in a row."""
    owner: Any
    """The mapped bytes under `raw`, kept alive with it."""

    @property
    def rows(self) -> int:
        return self.raw.shape[-2]

    def expert(self, index: int) -> Blocks:
        """One expert's matrix, a view."""
        return replace(self, raw=self.raw[index])


def on_device(data: NDArray[np.uint8], share: Callable[..., mx.array] = mx.asarray) -> mx.array:
    """Bytes of the host as an MLX array: the same memory where the device allows that (Metal), else a copy.

    Sharing needs whole pages, so the array is a view into the run of pages around `data`; the caller keeps `data`
    alive. `share` is what wraps the pages, with `copy=False`.
    """
    page = mmap.PAGESIZE
    address = data.ctypes.data
    offset, end = address % page, address + data.nbytes
    pages = -(-(end - (address - offset)) // page)  # a page that holds one mapped byte is mapped as a whole
    if not data.nbytes or not data.flags.c_contiguous:
        return _copied(data)
    window = np.ctypeslib.as_array((ctypes.c_uint8 * (pages * page)).from_address(address - offset))
    try:
        # two axes, because MLX counts an axis in 31 bits
        shared = share(window.reshape(pages, page), copy=False)
    except (ValueError, RuntimeError):  # this device does not take host memory as it is
        return _copied(data)
    return mx.as_strided(shared, data.shape, data.strides, offset)


def _copied(data: NDArray[np.uint8]) -> mx.array:
    """A copy in the device's own memory."""
    return upload(data) if mx.cuda.is_available() and mx.default_device() == mx.gpu else mx.array(data)


def load_blocks(tensor: Tensor, bring: Callable[[NDArray[np.uint8]], mx.array] = on_device) -> Blocks:
    """A tensor's blocks on the device, where `bring` brings them. Raises UnsupportedType naming the tensor where its
    format has no decoder."""
    name = tensor.format.name
    if name not in DECODERS:
        raise UnsupportedType(
            f"tensor {tensor.name} is stored as {name}, which the mlx ops cannot decode; they read "
            f"{', '.join(DECODERS)}. Use the numpy ops, or a build of this model in one of these formats"
        )
    return Blocks(bring(tensor.data), name, tensor.shape[-1], tensor.data)


def multiply(x: mx.array, weight: Blocks, first: int = 0, last: int | None = None) -> mx.array:
    """x [T, in] through rows `first` to `last` of a matrix [out, in]: float32 [T, last - first]."""
    last = weight.rows if last is None else last
    chunk = max(1, CHUNK_VALUES // weight.columns)
    products = []
    for low in range(first, last, chunk):
        part = weight.raw[low : min(low + chunk, last)]
        product = x @ decode(part, weight.format_name).T
        if part.shape[0] * weight.columns >= LAZY_VALUES:
            mx.eval(product)
        products.append(product)
    return products[0] if len(products) == 1 else mx.concatenate(products, axis=1)


def take_rows(weight: Blocks, index: mx.array) -> mx.array:
    """Rows [len(index), in] of a matrix as float32; only these are decoded."""
    return decode(weight.raw[index], weight.format_name)
