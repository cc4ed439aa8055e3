"""Blocks decoded by MLX operations against gguf-py's decoders, bit for bit."""

import mlx.core as mx
import numpy as np
import pytest
from random_model import as_tensor

from ds4_backend.errors import UnsupportedType
from ds4_backend.gguf.decode import dequantize
from ds4_backend.gguf.formats import FORMATS
from ds4_backend.gguf.reader import Tensor
from ds4_backend.ops.mlx.blocks import DECODERS, decode
from ds4_backend.ops.mlx.linear import load_blocks

HALVES = {"Q8_0": (0,), "Q2_K": (80, 82), "Q4_K": (0, 2), "IQ2_XXS": (0,), "MXFP4": ()}
"""Where a block's f16 fields begin."""


def random_blocks(name, *shape, seed=0):
    """Any bytes, uint8 [*shape, block_bytes], with finite f16 fields: normal, subnormal, zero and negative ones."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (*shape, FORMATS[name].block_bytes), dtype=np.uint8)
    for at in HALVES[name]:
        bits = rng.integers(0, 0x7C00, shape, dtype=np.uint16) | (rng.integers(0, 2, shape, dtype=np.uint16) << 15)
        bits[..., 0] = rng.integers(0, 4)  # zero or subnormal
        raw[..., at : at + 2] = bits[..., None].view(np.uint8)
    return raw


def same_bits(got, expected):
    np.testing.assert_array_equal(np.array(got).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (2, 7, 2)])
def test_any_block_decodes_as_gguf_py_decodes_it(name, shape):
    raw = random_blocks(name, *shape).reshape(*shape[:-1], -1)
    got = decode(mx.array(raw), name)
    assert got.dtype == mx.float32 and got.shape == (*shape[:-1], shape[-1] * FORMATS[name].block_size)
    same_bits(got, dequantize(raw, FORMATS[name]))


def test_every_mxfp4_exponent_and_code_is_decoded():
    raw = np.zeros((256, 17), np.uint8)
    raw[:, 0] = np.arange(256)
    raw[:, 1:] = np.arange(16, dtype=np.uint8) * 17  # each code as low and as high nibble
    same_bits(decode(mx.array(raw), "MXFP4"), dequantize(raw, FORMATS["MXFP4"]))


def test_every_iq2_xxs_grid_row_and_sign_pattern_is_decoded():
    raw = np.zeros((64, 66), np.uint8)
    raw[:, :2] = np.array([1.5], np.float16).view(np.uint8)
    groups = raw[:, 2:].reshape(64 * 8, 8)
    groups[:, :4] = np.arange(64 * 8 * 4, dtype=np.uint16).reshape(-1, 4) % 256
    signs = (np.arange(64 * 8 * 4, dtype=np.uint32).reshape(-1, 4) // 3) % 128
    words = signs[:, 0] | signs[:, 1] << 7 | signs[:, 2] << 14 | signs[:, 3] << 21
    words |= (np.arange(512, dtype=np.uint32) % 16) << 28
    groups[:, 4:] = words[:, None].view(np.uint8)
    same_bits(decode(mx.array(raw), "IQ2_XXS"), dequantize(raw, FORMATS["IQ2_XXS"]))


@pytest.mark.parametrize(("name", "dtype"), [("F32", np.uint32), ("F16", np.uint16), ("BF16", np.uint16)])
def test_plain_numbers_keep_their_value(name, dtype):
    exponent = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}[name]
    bits = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (3, 50), dtype=dtype, endpoint=True)
    bits[(bits & exponent) == exponent] = 1  # no infinities and NaNs; a subnormal in their place
    raw = bits.view(np.uint8)
    same_bits(decode(mx.array(raw), name), dequantize(raw, FORMATS[name]))


def test_a_slice_of_a_larger_array_decodes_the_same():
    raw = random_blocks("IQ2_XXS", 9, 2).reshape(9, -1)
    same_bits(decode(mx.array(raw)[4:5], "IQ2_XXS"), dequantize(raw[4:5], FORMATS["IQ2_XXS"]))


def test_a_format_without_a_decoder_is_refused_with_the_tensor_and_the_way_out():
    tensor = Tensor("blk.3.attn_kv.weight", (2, 256), FORMATS["Q6_K"], np.zeros((2, 210), np.uint8))
    with pytest.raises(UnsupportedType, match=r"blk\.3\.attn_kv\.weight is stored as Q6_K.*numpy ops"):
        load_blocks(tensor)
    with pytest.raises(UnsupportedType, match="I32"):
        load_blocks(as_tensor("table", np.zeros((2, 4), np.int32)))


def test_the_decoders_are_those_of_the_published_builds():
    assert set(DECODERS) == {"F32", "F16", "BF16", "Q8_0", "Q2_K", "Q4_K", "IQ2_XXS", "MXFP4"}
    assert all(DECODERS[name].block_bytes == FORMATS[name].block_bytes for name in DECODERS)
