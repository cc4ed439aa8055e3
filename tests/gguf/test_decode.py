"""Decoding: bit for bit what gguf-py gives, and what the published formulas give."""

from __future__ import annotations

import struct
import tracemalloc

import gguf
import numpy as np
import pytest
from block_formulas import FORMULAS, HALVES_AT

from ds4_backend.errors import UnsupportedType
from ds4_backend.gguf import decode
from ds4_backend.gguf.decode import can_decode, check_decodable, dequantize
from ds4_backend.gguf.formats import FORMATS, row_bytes

NEEDED = [
    "F32", "F16", "BF16", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "MXFP4",
    "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS",
]  # fmt: skip


def _random_rows(name: str, rows: int, blocks: int, seed: int = 0) -> np.ndarray:
    """Any bytes at all: scales may be infinite or no number."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (rows, blocks * FORMATS[name].block_bytes), dtype=np.uint8)


def _random_block(name: str, rng: np.random.Generator) -> bytes:
    block = bytearray(rng.integers(0, 256, FORMATS[name].block_bytes, dtype=np.uint8).tobytes())
    for at in HALVES_AT[name]:
        struct.pack_into("<e", block, at, rng.normal())
    return bytes(block)


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_any_bytes_decode_bit_for_bit_as_gguf_py_does(name: str) -> None:
    rows = _random_rows(name, 37, 5, seed=len(name))
    expected = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[name])
    decoded = dequantize(rows, FORMATS[name])
    assert decoded.dtype == np.float32
    assert decoded.shape == (37, 5 * FORMATS[name].block_size)
    assert np.array_equal(_bits(decoded), _bits(expected))


@pytest.mark.parametrize("name", FORMULAS)
def test_blocks_decode_to_what_the_formula_says(name: str) -> None:
    rng = np.random.default_rng(7)
    blocks = [_random_block(name, rng) for _ in range(60)]
    decoded = dequantize(np.frombuffer(b"".join(blocks), np.uint8), FORMATS[name])
    expected = np.array([x for block in blocks for x in FORMULAS[name](block)], np.float32)
    assert np.array_equal(decoded, expected)


def test_every_mxfp4_scale_decodes_to_its_power_of_two() -> None:
    block = [bytes([e]) + bytes(range(0, 256, 16)) for e in range(256)]
    decoded = dequantize(np.frombuffer(b"".join(block), np.uint8), FORMATS["MXFP4"])
    expected = np.array([x for b in block for x in FORMULAS["MXFP4"](b)], np.float32)
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize("name", ["Q8_0", "Q4_K", "F16"])
def test_chunks_do_not_show(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _random_rows(name, 9, 7)
    whole = _bits(dequantize(rows, FORMATS[name]))
    monkeypatch.setattr(decode, "CHUNK_VALUES", 600)
    assert np.array_equal(_bits(dequantize(rows, FORMATS[name])), whole)


def test_leading_dims_are_kept_and_strided_rows_are_read_right() -> None:
    rows = _random_rows("Q2_K", 24, 2).reshape(4, 6, -1)
    decoded = dequantize(rows, FORMATS["Q2_K"])
    assert decoded.shape == (4, 6, 512)
    assert np.array_equal(_bits(dequantize(rows[1::2, ::3], FORMATS["Q2_K"])), _bits(decoded[1::2, ::3]))


def test_no_rows_decode_to_no_rows() -> None:
    format = FORMATS["Q8_0"]
    assert dequantize(np.empty((0, row_bytes(format, 64)), np.uint8), format).shape == (0, 64)


def test_float32_comes_as_a_copy_that_can_be_written() -> None:
    stored = np.arange(4, dtype=np.float32).view(np.uint8)
    stored.flags.writeable = False
    decoded = dequantize(stored, FORMATS["F32"])
    decoded[0] = 9
    assert stored.view(np.float32)[0] == 0


def test_memory_beside_the_result_is_bounded() -> None:
    rows = _random_rows("IQ2_XXS", 4096, 4)  # 4.2 million values, 16.8 MB decoded
    dequantize(rows[:1], FORMATS["IQ2_XXS"])  # imports and grid
    tracemalloc.start()
    decoded = dequantize(rows, FORMATS["IQ2_XXS"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - decoded.nbytes < 64 * decode.CHUNK_VALUES


@pytest.mark.parametrize("name", ["I8", "I16", "I32", "I64", "F64"])
def test_integers_and_doubles_are_not_decoded(name: str) -> None:
    assert not can_decode(FORMATS[name])
    with pytest.raises(UnsupportedType, match=f"stored as {name} .* plain numbers"):
        dequantize(np.zeros(64, np.uint8), FORMATS[name])


def test_a_format_without_a_decoder_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedType, match=r"tensor x is stored as Q8_K \(type id 15\), which cannot be decoded"):
        check_decodable(FORMATS["Q8_K"], "tensor x")


@pytest.mark.parametrize("data", [np.zeros(35, np.uint8), np.zeros(34, np.int8), np.zeros((), np.uint8)])
def test_what_is_no_row_of_whole_blocks_is_refused(data: np.ndarray) -> None:
    with pytest.raises(ValueError, match="whole blocks of 34 bytes"):
        dequantize(data, FORMATS["Q8_0"])
