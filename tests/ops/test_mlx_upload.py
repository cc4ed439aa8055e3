"""Copies to the device by MLX's own file loader: the same bytes, in whatever parts, and the memory comes back."""

from __future__ import annotations

import gc

import mlx.core as mx
import numpy as np
import pytest

from ds4_backend.ops.mlx.upload import upload

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1,), (34,), (3, 34), (7, 5, 66), (100, 4099), (1, 9000), (0, 34)])
@pytest.mark.parametrize("part_bytes", [1 << 26, 4096, 50])
def test_the_bytes_arrive_in_whatever_parts(shape, part_bytes):
    data = RNG.integers(0, 256, shape, dtype=np.uint8)
    got = upload(data, part_bytes)
    assert got.dtype == mx.uint8 and got.shape == shape
    np.testing.assert_array_equal(np.array(got), data)


def test_a_view_with_gaps_is_copied_as_it_reads():
    data = RNG.integers(0, 256, (64, 34), dtype=np.uint8)[::2]
    np.testing.assert_array_equal(np.array(upload(data, 100)), data)


def test_it_is_a_copy():
    data = RNG.integers(1, 256, (4, 34), dtype=np.uint8)
    got = upload(data)
    data[:] = 0
    assert np.array(got).all()


def test_an_mlx_that_takes_no_file_of_ours_is_still_served(monkeypatch, caplog):
    def refuse(file, format):
        raise RuntimeError("[load] Input must be a string")

    monkeypatch.setattr(mx, "load", refuse)
    data = RNG.integers(0, 256, (7, 66), dtype=np.uint8)
    np.testing.assert_array_equal(np.array(upload(data, 100)), data)
    assert "does not load from memory" in caplog.text


def test_its_memory_is_given_back():
    data = RNG.integers(0, 256, (64, 1 << 16), dtype=np.uint8)
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    got = upload(data, 1 << 18)
    assert mx.get_active_memory() - before >= data.nbytes
    del got
    mx.clear_cache()
    assert mx.get_active_memory() - before < 1 << 16
    assert mx.get_cache_memory() == 0
