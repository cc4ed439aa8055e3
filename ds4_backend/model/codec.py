"""Exported state as bytes and back, without loss. It knows shapes and number formats; no files, no tokens.

With the cache simulation on, rows hold few distinct values and are packed: a row of width d as d - R E4M3 codes, one
scale exponent per 64 of them (padded to 8 bytes) and R float16 rotary channels; an indexer row as two E2M1 codes a byte
and one exponent per 32. Without it rows are float32. The (value, gate) pairs of open windows are float32 always; of a
closed CSA window only the first halves are kept, which is all that its successor reads.

A page or tail has no header: size and order follow from geometry and length, so bytes of any other size are refused.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from ds4_backend.errors import EngineError
from ds4_backend.gguf.geometry import CSA, HCA, PAGE_TOKENS, Geometry
from ds4_backend.ops.base import Packed, Rows
from ds4_backend.ops.numpy.state import lane_length, open_rows
from ds4_backend.ops.simulate import E2M1_MAX, E4M3_MAX, INDEXER_BLOCK, ROW_BLOCK, power_of_two_scale

LAYOUT_VERSION = 1
"""Changes whenever the same bytes would mean another state; part of the cache's fingerprint."""

Bytes = NDArray[np.uint8]
Float = NDArray[np.float32]
EXPONENT_PADDING = 8


class StateCodec:
    """Bytes of one network's pages and tails; `packed` is whether the cache simulation is on."""

    def __init__(self, geometry: Geometry, *, packed: bool) -> None:
        self.geometry, self.packed = geometry, packed

    @property
    def page_nbytes(self) -> int:
        """Bytes of one full page of 128 tokens."""
        return sum(self._part_nbytes(kind, shape) for kind, shape in self._page_shapes().items())

    def tail_nbytes(self, length: int) -> int:
        """Bytes of the tail at `length` tokens."""
        return sum(self._part_nbytes(kind, shape) for kind, shape in self._tail_shapes(length).items())

    def encode_pages(self, rows: Rows) -> list[bytes]:
        """One byte string per page of `State.export_pages`."""
        kinds = list(self._page_shapes())
        count = len(rows[kinds[0]]) if kinds else 0
        parts = {kind: self._encode(kind, rows[kind]) for kind in kinds}
        return [b"".join(parts[kind][page].tobytes() for kind in kinds) for page in range(count)]

    def stored_pages(self, pages: bytes | memoryview) -> Rows | Packed:
        """What `State` can take of `encode_pages`, all pages one after another: packed pages as they are. Raises
        EngineError where their size does not fit."""
        raw = self._pages(pages)
        if not self.packed or not raw.size:
            return self.decode_pages(pages)
        at, place = {}, 0
        for kind, shape in self._page_shapes().items():
            at[kind], place = place, place + self._part_nbytes(kind, shape)
        row_nbytes = {kind: self._row_nbytes(kind, shape[-1]) for kind, shape in self._page_shapes().items()}
        return Packed(raw, at, row_nbytes, lambda: self.decode_pages(pages))

    def _pages(self, pages: bytes | memoryview) -> Bytes:
        """uint8 [P, bytes of a page]."""
        size = self.page_nbytes
        count = len(pages) // size if size else 0
        self._check_size(len(pages), count * size, f"row of {count} pages")
        return np.frombuffer(pages, np.uint8).reshape(count, size)

    def decode_pages(self, pages: bytes | memoryview) -> Rows:
        """The reverse of `encode_pages`, of all pages one after another. Raises EngineError where their size does not
        fit."""
        raw, rows, at = self._pages(pages), {}, 0
        count = len(raw)
        for kind, shape in self._page_shapes().items():
            part = self._part_nbytes(kind, shape)
            rows[kind] = self._decode(kind, raw[:, at : at + part], (count, *shape))
            at += part
        return rows

    def encode_tail(self, rows: Rows, length: int) -> bytes:
        """The byte string of `State.export_tail` at `length` tokens."""
        parts = _split_lanes(rows, length)
        return b"".join(self._encode(kind, parts[kind][None]).tobytes() for kind in self._tail_shapes(length))

    def decode_tail(self, data: bytes | memoryview, length: int) -> Rows:
        """The reverse of `encode_tail`. Raises EngineError for data of another size."""
        self._check_size(len(data), self.tail_nbytes(length), f"tail at {length} tokens")
        raw, rows, at = np.frombuffer(data, np.uint8)[None], {}, 0
        for kind, shape in self._tail_shapes(length).items():
            size = self._part_nbytes(kind, shape)
            rows[kind] = self._decode(kind, raw[:, at : at + size], (1, *shape))[0]
            at += size
        return _join_lanes(rows)

    # Shapes

    def _page_shapes(self) -> dict[str, tuple[int, ...]]:
        g, csa, hca = self.geometry, len(self.geometry.layers_of(CSA)), len(self.geometry.layers_of(HCA))
        shapes = {
            "csa": (csa, PAGE_TOKENS // CSA, g.attention_key_length),
            "indexer": (csa, PAGE_TOKENS // CSA, g.attention_indexer_key_length),
            "hca": (hca, PAGE_TOKENS // HCA, g.attention_key_length),
        }
        return {kind: shape for kind, shape in shapes.items() if shape[0]}

    def _tail_shapes(self, length: int) -> dict[str, tuple[int, ...]]:
        g = self.geometry
        window = (g.block_count, min(length, g.attention_sliding_window), g.attention_key_length)
        shapes: dict[str, tuple[int, ...]] = {"window": window}
        for kind, (layers, _, width) in self._page_shapes().items():
            if kind == "hca":
                shapes["hca_lane"] = (layers, 2, lane_length(kind, length), width)
            else:
                shapes[f"{kind}_closed_lane"] = (layers, 2, lane_length(kind, length) - length % CSA, width)
                shapes[f"{kind}_lane"] = (layers, 2, length % CSA, 2 * width)
            if open_rows(kind, length):
                shapes[kind] = (layers, open_rows(kind, length), width)
        return shapes

    # Number formats

    def _row_nbytes(self, kind: str, width: int) -> int:
        if not self.packed or kind.endswith("_lane"):
            return 4 * width
        if kind == "indexer":
            return width // 2 + width // INDEXER_BLOCK
        plain = width - self.geometry.rope_dimension_count
        return plain + _padded(plain // ROW_BLOCK) + 2 * self.geometry.rope_dimension_count

    def _part_nbytes(self, kind: str, shape: tuple[int, ...]) -> int:
        return prod(shape[:-1]) * self._row_nbytes(kind, shape[-1])

    def _encode(self, kind: str, rows: Float) -> Bytes:
        """Rows [items, ..., width] to bytes [items, ...]."""
        if not self.packed or kind.endswith("_lane"):
            packed = np.ascontiguousarray(rows, "<f4").view(np.uint8)
        elif kind == "indexer":
            packed = _pack_indexer(rows)
        else:
            packed = _pack_rows(rows, self.geometry.rope_dimension_count)
        return packed.reshape(len(rows), prod(packed.shape[1:]))

    def _decode(self, kind: str, raw: Bytes, shape: tuple[int, ...]) -> Float:
        """Bytes [items, n] to rows of `shape`."""
        raw = raw.reshape(*shape[:-1], self._row_nbytes(kind, shape[-1]))
        if not self.packed or kind.endswith("_lane"):
            return np.ascontiguousarray(raw).view("<f4").astype(np.float32)
        if kind == "indexer":
            return _unpack_indexer(raw, shape[-1])
        return _unpack_rows(raw, shape[-1], self.geometry.rope_dimension_count)

    @staticmethod
    def _check_size(found: int, wanted: int, what: str) -> None:
        if found != wanted:
            raise EngineError(f"a stored {what} has {found:,} bytes; this network's have {wanted:,}")


def _split_lanes(rows: Rows, length: int) -> Rows:
    """CSA lanes as what is left of the closed window (first halves) and the open one (whole)."""
    out = dict(rows)
    for kind in ("csa", "indexer"):
        if (lane := rows.get(f"{kind}_lane")) is not None:
            closed = lane.shape[2] - length % CSA
            out[f"{kind}_closed_lane"] = lane[:, :, :closed, : lane.shape[3] // 2]
            out[f"{kind}_lane"] = lane[:, :, closed:]
    return out


def _join_lanes(rows: Rows) -> Rows:
    """The reverse of `_split_lanes`; second halves that nobody reads are zero."""
    for kind in ("csa", "indexer"):
        if (closed := rows.pop(f"{kind}_closed_lane", None)) is not None:
            whole = np.concatenate([closed, np.zeros_like(closed)], axis=3)
            rows[f"{kind}_lane"] = np.concatenate([whole, rows[f"{kind}_lane"]], axis=2)
    return rows


def _padded(count: int) -> int:
    return -(-count // EXPONENT_PADDING) * EXPONENT_PADDING


def _blocks(values: Float, size: int, top: float, least: float) -> tuple[Float, Bytes]:
    """Magnitudes over their block's scale, signs kept, and the scales' exponents (two's complement) as bytes."""
    blocks = values.reshape(*values.shape[:-1], values.shape[-1] // size, size)
    largest = np.maximum(np.abs(blocks).max(-1, keepdims=True), np.float32(least))
    scale = power_of_two_scale(largest, top)
    exponents = (np.frexp(scale)[1] - 1).astype(np.int8).view(np.uint8)[..., 0]
    return (blocks / scale).reshape(values.shape), exponents


def _scales(exponents: Bytes, size: int) -> Float:
    return np.repeat(np.ldexp(np.float32(1), exponents.view(np.int8).astype(np.int32)), size, axis=-1)


def _pack_rows(rows: Float, rotary: int) -> Bytes:
    plain = rows.shape[-1] - rotary
    values, exponents = _blocks(np.ascontiguousarray(rows[..., :plain]), ROW_BLOCK, E4M3_MAX, 1e-4)
    bits = np.abs(values).view(np.uint32)
    normal = (bits >> 20) - ((127 - 7) << 3)  # float32's exponent and top 3 mantissa bits, rebiased
    codes = np.where(np.abs(values) < 2.0**-6, (np.abs(values) * 512).astype(np.uint32), normal)
    signs = np.signbit(values).astype(np.uint32) << 7
    padding = np.zeros((*rows.shape[:-1], _padded(exponents.shape[-1]) - exponents.shape[-1]), np.uint8)
    turned = np.ascontiguousarray(rows[..., plain:], np.float32).astype("<f2").view(np.uint8)
    return np.concatenate([(codes | signs).astype(np.uint8), exponents, padding, turned], axis=-1)


def _unpack_rows(raw: Bytes, width: int, rotary: int) -> Float:
    plain = width - rotary
    blocks = plain // ROW_BLOCK
    exponents = np.ascontiguousarray(raw[..., plain : plain + blocks])
    turned = np.ascontiguousarray(raw[..., plain + _padded(blocks) :]).view("<f2").astype(np.float32)
    return np.concatenate([_E4M3[raw[..., :plain]] * _scales(exponents, ROW_BLOCK), turned], axis=-1)


def _pack_indexer(rows: Float) -> Bytes:
    values, exponents = _blocks(np.ascontiguousarray(rows, np.float32), INDEXER_BLOCK, E2M1_MAX, 6 * 2.0**-126)
    codes = np.searchsorted(_E2M1[:8], np.abs(values)).astype(np.uint8) | (np.signbit(values).astype(np.uint8) << 3)
    return np.concatenate([codes[..., ::2] | (codes[..., 1::2] << 4), exponents], axis=-1)


def _unpack_indexer(raw: Bytes, width: int) -> Float:
    pairs = raw[..., : width // 2]
    codes = np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(*raw.shape[:-1], width)
    return _E2M1[codes] * _scales(np.ascontiguousarray(raw[..., width // 2 :]), INDEXER_BLOCK)


def _e4m3_table() -> Float:
    codes = np.arange(128)
    exponent, mantissa = codes >> 3, codes & 7
    sizes = np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    return np.concatenate([sizes, -sizes]).astype(np.float32)


_E4M3 = _e4m3_table()
_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
