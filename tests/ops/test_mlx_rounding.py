"""The cache simulation on the device against the one on the host."""

import mlx.core as mx
import numpy as np
import pytest

from ds4_backend.ops import simulate
from ds4_backend.ops.mlx import rounding

RNG = np.random.default_rng(5)


def on_device(function, rows, *rest):
    return np.array(function(mx.array(rows), *rest))


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 500.0, 1e4])
def test_attention_rows_are_rounded_bit_for_bit_alike(size):
    rows = (RNG.standard_normal((40, 128 + 16)) * size).astype(np.float32)
    np.testing.assert_array_equal(on_device(rounding.round_rows, rows, 16), simulate.round_rows(rows, 16))


def test_attention_rows_are_alike_at_every_scale_boundary():
    """Largest values on, just below and just above each power of two times 448, 1 and the smallest scale."""
    tops = np.array([v * 2.0**e for e in range(-22, 8) for v in (448.0, 1.0, 256.0)] + [1e-4], np.float32)
    tops = np.concatenate([tops, np.nextafter(tops, np.float32(0)), np.nextafter(tops, np.float32(1e9))])
    rows = (RNG.standard_normal((len(tops), 64 + 2)) / 8).astype(np.float32) * tops[:, None]
    rows[:, :64] = np.clip(rows[:, :64], -tops[:, None], tops[:, None])
    rows[:, 5] = tops
    np.testing.assert_array_equal(on_device(rounding.round_rows, rows, 2), simulate.round_rows(rows, 2))


def test_attention_rows_are_alike_at_every_tie():
    steps = np.arange(-960, 961, dtype=np.float32) / 2  # multiples of half a step everywhere in the normal range
    small = np.arange(-64, 65, dtype=np.float32) * 2.0**-10  # half steps of the subnormals
    values = np.concatenate([steps, small])
    values = np.concatenate([values, np.zeros(-len(values) % 63, np.float32)]).reshape(-1, 63)
    rows = np.concatenate([np.clip(values, -448, 448), np.full((len(values), 1), 448), np.zeros((len(values), 2))], 1)
    rows = rows.astype(np.float32)
    np.testing.assert_array_equal(on_device(rounding.round_rows, rows, 2), simulate.round_rows(rows, 2))


@pytest.mark.parametrize("width", [32, 64, 128])
@pytest.mark.parametrize("size", [1e-5, 1.0, 1e4])
def test_indexer_rows_are_rounded_alike(width, size):
    rows = (RNG.standard_normal((3, 20, width)) * size).astype(np.float32)
    got, expected = on_device(rounding.round_indexer, rows), simulate.round_indexer(rows)
    np.testing.assert_array_equal(got, expected)  # these draws stay clear of rounding boundaries


def test_indexer_ties_go_to_the_even_code():
    """Rows whose transform is exact: the values wanted, transformed back by the same symmetric transform."""
    wanted = np.zeros((1, 64), np.float32)
    wanted[0, :16] = [6, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, -0.25, -0.75, -1.25, -1.75, -2.5, -3.5, -5, 0.5]
    rows = np.array(mx.hadamard_transform(mx.array(wanted)))
    np.testing.assert_array_equal(rows * 8, np.rint(rows * 8 * 4) / 4)
    expected = [6, 0, 1, 1, 2, 2, 4, 4, 0, -1, -1, -2, -2, -4, -4, 0.5]
    np.testing.assert_array_equal(on_device(rounding.round_indexer, rows)[0, :16], expected)
    np.testing.assert_array_equal(simulate.round_indexer(rows)[0, :16], expected)


def test_zero_rows_stay_zero():
    assert not on_device(rounding.round_rows, np.zeros((2, 80), np.float32), 16).any()
    assert not on_device(rounding.round_indexer, np.zeros((2, 32), np.float32)).any()
