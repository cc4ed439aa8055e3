"""Products with raw blocks on the device: in pieces, from shared memory, and no more memory than said."""

import mlx.core as mx
import numpy as np
import pytest

from ds4_backend.gguf.decode import dequantize
from ds4_backend.gguf.encode import quantize
from ds4_backend.gguf.formats import FORMATS
from ds4_backend.gguf.reader import Tensor
from ds4_backend.ops.mlx import linear
from ds4_backend.ops.mlx.linear import load_blocks, multiply, on_device, take_rows

RNG = np.random.default_rng(3)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def matrix(name, *shape):
    """A matrix stored in a format, and its values as stored."""
    data = quantize(normal(*shape), name)
    return load_blocks(Tensor("w", shape, FORMATS[name], data)), dequantize(data, FORMATS[name])


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0", "Q2_K", "Q4_K", "MXFP4"])
@pytest.mark.parametrize("tokens", [1, 3])
def test_a_product_is_that_of_the_decoded_weights(name, tokens):
    stored, values = matrix(name, 7, 256)
    x = normal(tokens, 256)
    np.testing.assert_allclose(np.array(multiply(mx.array(x), stored)), x @ values.T, atol=2e-4)


@pytest.mark.parametrize("rows_at_once", [1, 2, 5, 7, 100])
def test_pieces_give_what_the_whole_matrix_gives(monkeypatch, rows_at_once):
    stored, values = matrix("Q8_0", 7, 64)
    monkeypatch.setattr(linear, "CHUNK_VALUES", 64 * rows_at_once)
    monkeypatch.setattr(linear, "LAZY_VALUES", 100)
    x = normal(2, 64)
    np.testing.assert_allclose(np.array(multiply(mx.array(x), stored)), x @ values.T, atol=1e-4)
    np.testing.assert_allclose(np.array(multiply(mx.array(x), stored, 2, 6)), x @ values[2:6].T, atol=1e-4)


def test_memory_is_bounded_by_the_piece_and_not_by_the_matrix(monkeypatch):
    stored, _ = matrix("Q8_0", 2048, 1024)  # 8 MiB as float32
    monkeypatch.setattr(linear, "CHUNK_VALUES", 1 << 16)
    monkeypatch.setattr(linear, "LAZY_VALUES", 1 << 12)
    x = mx.array(normal(1, 1024))
    mx.eval(x, stored.raw)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(multiply(x, stored))
    assert mx.get_peak_memory() - before < 6 * 4 * (1 << 16)  # the piece, its decoding, and the product


def test_only_the_rows_asked_for_are_taken_in_their_order():
    stored, values = matrix("F16", 20, 32)
    np.testing.assert_array_equal(np.array(take_rows(stored, mx.array([7, 0, 7, 19]))), values[[7, 0, 7, 19]])


def test_an_expert_is_one_matrix_of_the_stack():
    stored, values = matrix("MXFP4", 3, 5, 64)
    x = normal(2, 64)
    for e in range(3):
        np.testing.assert_allclose(np.array(multiply(mx.array(x), stored.expert(e))), x @ values[e].T, atol=1e-4)


@pytest.mark.parametrize("offset", [0, 32, 4096 + 96, 16384 * 2 - 32])
@pytest.mark.parametrize("shape", [(3, 34), (2, 100, 66), (5, 9000)])
def test_shared_bytes_are_a_view_into_whole_pages_around_them(offset, shape):
    memory = RNG.integers(0, 256, 200_000, dtype=np.uint8)
    data = memory[offset : offset + int(np.prod(shape))].reshape(shape)
    windows = []

    def share(window, copy):
        assert copy is False
        windows.append(window)
        return mx.array(window)

    np.testing.assert_array_equal(np.array(on_device(data, share)), data)
    (window,) = windows
    assert window.ctypes.data % window.shape[1] == 0, "a device takes whole pages only"
    assert window.ctypes.data <= data.ctypes.data
    assert data.ctypes.data + data.nbytes <= window.ctypes.data + window.nbytes < data.ctypes.data + data.nbytes + 16384


def test_a_device_that_refuses_to_share_gets_a_copy():
    data = RNG.integers(0, 256, (4, 34), dtype=np.uint8)

    def refuse(window, copy):
        raise ValueError("[convert] Cannot import a CPU array without a copy.")

    got = on_device(data, refuse)
    np.testing.assert_array_equal(np.array(got), data)
    data[:] = 0
    assert np.array(got).any()


def test_bytes_that_are_not_in_one_run_are_copied():
    data = RNG.integers(0, 256, (8, 34), dtype=np.uint8)[::2]
    np.testing.assert_array_equal(np.array(on_device(data)), data)
