"""Whatever the bytes, a header is read soundly or refused with FileError, and memory stays in bounds."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import pairwise
from pathlib import Path

import gguf_bytes as b
import numpy as np
import pytest
from header_mutations import mutate, seeds
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4_backend.errors import FileError
from ds4_backend.gguf.header import Header, parse_header
from ds4_backend.gguf.reader import open_gguf

ALLOWED_PER_BYTE, ALLOWED_ALWAYS = 64, 32 << 10
"""Bytes of memory that parsing may take: so many for each byte of header, and so many whatever its size."""


def _check_sound(head: Header, nbytes: int) -> None:
    """What an accepted header says can be used without another check."""
    placed = sorted((t.offset, t.nbytes) for t in head.tensors)
    assert all(start % head.alignment == 0 for start, _ in placed)
    assert all(start + size <= after for (start, size), (after, _) in pairwise(placed))
    assert all(head.data_start + start + size <= nbytes for start, size in placed)
    for tensor in head.tensors:
        blocks = tensor.nbytes // tensor.format.block_bytes
        assert blocks * tensor.format.block_bytes == tensor.nbytes
        assert blocks * tensor.format.block_size == np.prod(tensor.shape, dtype=object)


def _outcome(data: bytes) -> str:
    try:
        head = parse_header(data)
    except FileError as error:
        assert len(str(error)) < 70_000  # the longest names a key
        return type(error).__name__
    _check_sound(head, len(data))
    return "read"


def _fuzz(rounds: int, seed: int) -> tuple[Counter[str], float]:
    """Parse `rounds` mutated headers: how they ended, and the largest share of the allowed memory that one took."""
    rng = np.random.default_rng(seed)
    start = seeds()
    assert {_outcome(data) for data in start} == {"read"}  # also warms what is made once
    outcomes: Counter[str] = Counter()
    worst = 0.0
    tracemalloc.start()
    try:
        for _ in range(rounds):
            data = mutate(rng, start[rng.integers(len(start))])
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            outcomes[_outcome(data)] += 1
            taken = tracemalloc.get_traced_memory()[1] - before
            worst = max(worst, taken / (ALLOWED_PER_BYTE * len(data) + ALLOWED_ALWAYS))
    finally:
        tracemalloc.stop()
    return outcomes, worst


def _check_fuzz(rounds: int, seed: int) -> None:
    outcomes, worst = _fuzz(rounds, seed)
    print(f"{rounds:,} headers: {dict(outcomes)}; most memory {worst:.0%} of the allowance")
    assert worst < 1
    # Both ends are reached: mutations that spare the structure are read, the others are refused.
    assert outcomes["read"] > rounds // 50
    assert outcomes["FileError"] > rounds // 4
    assert outcomes["UnsupportedType"] > 0


def test_a_thousand_mutated_headers_are_read_or_refused() -> None:
    _check_fuzz(1_000, seed=1)


@pytest.mark.slow
def test_a_hundred_thousand_mutated_headers_are_read_or_refused() -> None:
    _check_fuzz(100_000, seed=2)


def test_mutated_files_open_or_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    path = tmp_path / "fuzzed.gguf"
    opened = 0
    for _ in range(300):
        path.write_bytes(mutate(rng, b.rich()))
        try:
            with open_gguf(path) as file:
                opened += 1
                for tensor in file.tensors.values():
                    assert tensor.data.tobytes() in path.read_bytes()
        except FileError:
            continue
    assert 0 < opened < 300


SCALARS = st.sampled_from([(b.U8, 1), (b.I16, 2), (b.U32, 4), (b.F32, 4), (b.I64, 8), (b.F64, 8)])
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@st.composite
def _keys(draw: st.DrawFn) -> bytes:
    name = draw(NAMES)
    if draw(st.booleans()):
        return b.key(name, b.ARRAY, b.strings(*draw(st.lists(st.text(max_size=6), max_size=5))))
    kind, size = draw(SCALARS)
    if draw(st.booleans()):
        return b.key(name, kind, draw(st.binary(min_size=size, max_size=size)))
    count = draw(st.integers(0, 5))
    return b.key(name, b.ARRAY, b.array(kind, count, bytes(size * count)))


@st.composite
def _infos(draw: st.DrawFn) -> bytes:
    dims = tuple(draw(st.lists(st.integers(1, 1 << 40) | st.sampled_from([1, 32, 256]), min_size=1, max_size=4)))
    offset = draw(st.sampled_from([0, 32, 64, 4096, 1 << 63]) | st.integers(0, (1 << 64) - 1))
    return b.info(draw(NAMES), dims, draw(st.sampled_from([0, 1, 8, 12, 16, 26, 39, 99])), offset)


@pytest.mark.slow
@settings(max_examples=150)
@given(st.lists(_keys(), max_size=5), st.lists(_infos(), max_size=4), st.integers(0, 4096))
def test_well_formed_headers_with_any_claims_are_read_or_refused(keys: list[bytes], infos: list[bytes], n: int) -> None:
    _outcome(b.with_data(b.header(keys, infos), bytes(n)))


@settings(max_examples=150)
@given(st.lists(_keys(), max_size=6, unique_by=lambda k: k[: 8 + int.from_bytes(k[:8], "little")]))
def test_headers_of_sound_keys_are_read(keys: list[bytes]) -> None:
    assert len(parse_header(b.header(keys)).metadata) == len(keys)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_after_the_magic_are_read_or_refused(tail: bytes) -> None:
    _outcome(b"GGUF\x03\0\0\0" + tail)


@settings(max_examples=200)
@given(st.binary(max_size=200), st.integers(1, 3))
def test_any_bytes_after_small_counts_are_read_or_refused(tail: bytes, count: int) -> None:
    _outcome(b.header()[:8] + bytes([0] * 8 + [count] + [0] * 7) + tail)


@pytest.mark.parametrize(
    "payload",
    [
        b.array(b.ARRAY, 5000, b.array(b.U8, 0, b"") * 5000),
        b.strings(*["é1"] * 8000),
        b.strings(*["毕" * 3] * 8000),
        b.array(b.BOOL, 90000, bytes(90000)),
    ],
    ids=["empty arrays", "short strings", "wide strings", "bools"],
)
def test_the_costliest_values_stay_in_the_memory_bound(payload: bytes) -> None:
    data = b.header([b.key("k", b.ARRAY, payload)])
    tracemalloc.start()
    parse_header(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < ALLOWED_PER_BYTE * len(data)


def test_many_small_tensors_stay_in_the_memory_bound() -> None:
    infos = [b.info(f"{i}", (1,), offset=32 * i) for i in range(5000)]
    data = b.with_data(b.header(infos=infos), bytes(32 * 5000))
    tracemalloc.start()
    head = parse_header(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < ALLOWED_PER_BYTE * head.data_start
