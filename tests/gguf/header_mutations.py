"""Seeded damage to GGUF headers: bits, bytes, whole numbers, strings of bytes cut out, doubled, or swapped."""

from __future__ import annotations

from collections.abc import Callable

import gguf_bytes as b
import numpy as np

Mutation = Callable[[np.random.Generator, bytearray], None]

_NUMBERS = (
    0,
    1,
    2,
    7,
    8,
    9,
    12,
    13,
    32,
    255,
    1 << 16,
    1 << 31,
    (1 << 32) - 1,
    1 << 33,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
)


def seeds() -> list[bytes]:
    """Small sound files to start from; one has room to spare, so that a tensor may move."""
    words = b.key("tokenizer.ggml.tokens", b.ARRAY, b.strings(*(f"Ġ{i}" for i in range(40))))
    nested = b.array(b.ARRAY, 2, b.array(b.ARRAY, 1, b.strings("x")) + b.array(b.BOOL, 2, b"\0\1"))
    many = [b.info(f"blk.{i}.attn_norm.weight", (8,), offset=32 * i) for i in range(12)]
    return [
        b.rich(),
        b.with_data(b.header([words, b.u32_key("general.alignment", 32)], [b.info("x", (8, 2))]), bytes(512)),
        b.with_data(b.header([b.key("n", b.ARRAY, nested)], many), bytes(32 * 12)),
        b.header(),
    ]


def mutate(rng: np.random.Generator, data: bytes) -> bytes:
    """The same bytes with one to four mutations."""
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        _MUTATIONS[rng.integers(len(_MUTATIONS))](rng, damaged)
    return bytes(damaged)


def _place(rng: np.random.Generator, data: bytearray, room: int = 1) -> int:
    return int(rng.integers(0, max(1, len(data) - room + 1)))


def _flip_bit(rng: np.random.Generator, data: bytearray) -> None:
    if data:
        data[_place(rng, data)] ^= 1 << int(rng.integers(8))


def _set_byte(rng: np.random.Generator, data: bytearray) -> None:
    if data:
        data[_place(rng, data)] = int(rng.integers(256))


def _set_number(rng: np.random.Generator, data: bytearray) -> None:
    width = (1, 2, 4, 8)[rng.integers(4)]
    value = _NUMBERS[rng.integers(len(_NUMBERS))] - int(rng.integers(2))
    at = _place(rng, data, width)
    data[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")


def _cut_end(rng: np.random.Generator, data: bytearray) -> None:
    del data[_place(rng, data) :]


def _cut_out(rng: np.random.Generator, data: bytearray) -> None:
    at = _place(rng, data)
    del data[at : at + int(rng.integers(1, 40))]


def _double(rng: np.random.Generator, data: bytearray) -> None:
    at = _place(rng, data)
    data[at:at] = data[at : at + int(rng.integers(1, 80))]


def _move(rng: np.random.Generator, data: bytearray) -> None:
    at, to, n = _place(rng, data), _place(rng, data), int(rng.integers(1, 24))
    data[to : to + n] = data[at : at + n]


def _noise(rng: np.random.Generator, data: bytearray) -> None:
    at, n = _place(rng, data), int(rng.integers(1, 24))
    data[at : at + n] = rng.integers(0, 256, n, dtype=np.uint8).tobytes()


_MUTATIONS: tuple[Mutation, ...] = (_flip_bit, _set_byte, _set_number, _cut_end, _cut_out, _double, _move, _noise)
