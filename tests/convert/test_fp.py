"""DeepSeek's FP8 and FP4, against independent statements of the formats."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from ds4_backend.convert import fp


def test_e4m3_codes_are_the_ones_of_the_open_compute_format():
    table = {0x00: 0, 0x01: 2**-9, 0x07: 7 * 2**-9, 0x08: 2**-6, 0x38: 1, 0x3C: 1.5, 0x7E: 448, 0xB8: -1, 0xFE: -448}
    for code, value in table.items():
        assert fp.E4M3[code] == value, hex(code)
    assert np.isnan(fp.E4M3[0x7F]) and np.isnan(fp.E4M3[0xFF])
    assert np.isfinite(np.delete(fp.E4M3, [0x7F, 0xFF])).all()


def test_e8m0_codes_are_powers_of_two_down_to_the_smallest():
    assert fp.E8M0[127] == 1 and fp.E8M0[130] == 8 and fp.E8M0[0] == 2.0**-127 and fp.E8M0[254] == 2.0**127
    assert np.isnan(fp.E8M0[255])


def test_bf16_is_the_upper_half_of_a_float32():
    values = np.array([1.0, -2.5, 3e38, 1e-40], np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    assert np.array_equal(fp.decode_bf16(bits).view(np.uint32), bits.astype(np.uint32) << 16)
    assert fp.decode_bf16(np.array([0x3FC0], np.uint16))[0] == 1.5


@pytest.mark.parametrize("shape", [(128, 128), (256, 384), (130, 200), (3, 5)])
def test_an_fp8_value_is_its_code_times_the_scale_of_its_tile(shape):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 127, shape, np.uint8)
    scales = rng.uniform(0.5, 2, (-(-shape[0] // 128), -(-shape[1] // 128))).astype(np.float32)
    decoded = fp.decode_fp8(codes, scales)
    for row, column in [(0, 0), (shape[0] - 1, shape[1] - 1), (shape[0] // 2, shape[1] - 1)]:
        assert decoded[row, column] == fp.E4M3[codes[row, column]] * scales[row // 128, column // 128]


def test_fp4_bytes_hold_neighbouring_inputs_low_nibble_first():
    packed = np.zeros((1, 16), np.uint8)
    packed[0, 0] = 0x21  # element 0 = code 1 = 0.5, element 1 = code 2 = 1
    packed[0, 15] = 0xF7  # element 30 = code 7 = 6, element 31 = code 15 = -6
    decoded = fp.decode_fp4(packed, np.array([[128]], np.uint8))
    assert decoded.shape == (1, 32)
    assert list(decoded[0, [0, 1, 2, 30, 31]]) == [1.0, 2.0, 0.0, 12.0, -12.0]


def test_fp4_as_mxfp4_decodes_in_gguf_py_to_the_very_same_numbers():
    rng = np.random.default_rng(1)
    packed = rng.integers(0, 256, (7, 64), np.uint8)
    scales = rng.integers(0, 255, (7, 4), np.uint8)
    rows = fp.fp4_to_mxfp4(packed, scales)
    assert rows.shape == (7, 4 * 17)
    expected = fp.decode_fp4(packed, scales)
    assert np.array_equal(gguf.quants.dequantize(rows, gguf.GGMLQuantizationType.MXFP4), expected)
