"""The cache simulation against the definition of its number formats."""

import numpy as np
import pytest
from random_model import geometry

from ds4_backend.errors import FileError
from ds4_backend.ops import simulate

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def e4m3_values():
    """Every non-negative finite E4M3 number, in code order: 3 mantissa bits, bias 7, subnormal step 2^-9."""
    codes = np.arange(0x7F)
    exponent, mantissa = codes >> 3, codes & 7
    return np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))


def nearest_even_code(values, table):
    """Round to the nearest table entry; a tie goes to the even code. Slow and plain."""
    distance = np.abs(np.abs(values)[:, None] - table)
    best = distance.min(1, keepdims=True)
    codes = np.where(distance == best, np.arange(len(table)) + (np.arange(len(table)) % 2) * 1000, 10**6)
    return np.copysign(table[np.argmin(codes, axis=1)], values)


def rows_with_scale_one(values):
    """Blocks of 64 whose largest magnitude is 448, so that the scale is 1."""
    padded = np.concatenate([values, np.zeros(-len(values) % 63)]).reshape(-1, 63)
    return np.concatenate([padded, np.full((len(padded), 1), 448.0)], axis=1).astype(np.float32)


def test_every_e4m3_number_is_kept_and_every_midpoint_goes_to_the_even_code():
    table = e4m3_values()
    middles = (table[1:] + table[:-1]) / 2
    values = np.concatenate([table, -table, middles, -middles])
    rows = rows_with_scale_one(values)
    got = simulate.round_rows(np.concatenate([rows, np.zeros((len(rows), 2), np.float32)], axis=1), rotary=2)
    np.testing.assert_array_equal(got[:, :63].reshape(-1)[: len(values)], nearest_even_code(values, table))


def test_rows_round_to_the_nearest_e4m3_of_their_block():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 128 + 16)).astype(np.float32) * 3
    got = simulate.round_rows(rows, rotary=16)
    for block in range(2):
        part, out = rows[:, 64 * block : 64 * block + 64].astype(np.float64), got[:, 64 * block : 64 * block + 64]
        scale = 2.0 ** np.ceil(np.log2(np.abs(part).max(1) / 448))
        expected = np.stack([nearest_even_code(r / s, e4m3_values()) * s for r, s in zip(part, scale, strict=True)])
        np.testing.assert_array_equal(out, expected.astype(np.float32))
    np.testing.assert_array_equal(got[:, 128:], rows[:, 128:].astype(np.float16))


@pytest.mark.parametrize("power", [-8, -1, 0, 3])
def test_the_scale_is_exact_where_the_largest_value_is_a_power_of_two_times_448(power):
    row = np.zeros((1, 64 + 2), np.float32)
    row[0, 0], row[0, 1] = 448 * 2.0**power, 2.0**power * 2**-9
    got = simulate.round_rows(row, rotary=2)
    np.testing.assert_array_equal(got[0, :2], row[0, :2])  # with twice the scale the small one would be lost


def test_a_zero_row_stays_zero():
    np.testing.assert_array_equal(simulate.round_rows(np.zeros((2, 80), np.float32), 16), 0)
    np.testing.assert_array_equal(simulate.round_indexer(np.zeros((2, 32), np.float32)), 0)


def test_rounding_rows_twice_changes_nothing():
    rows = np.random.default_rng(1).standard_normal((20, 80)).astype(np.float32)
    once = simulate.round_rows(rows, 16)
    np.testing.assert_array_equal(simulate.round_rows(once, 16), once)


def test_indexer_rows_are_transformed_then_rounded_to_e2m1():
    rows = np.random.default_rng(2).standard_normal((30, 64)).astype(np.float32)
    signs = np.array([[(-1) ** bin(i & j).count("1") for j in range(64)] for i in range(64)])  # Sylvester's matrix
    mixed = rows.astype(np.float64) @ signs / 8
    for half in range(2):
        part = mixed[:, 32 * half : 32 * half + 32]
        scale = 2.0 ** np.ceil(np.log2(np.abs(part).max(1) / 6))
        expected = np.stack([nearest_even_code(r / s, E2M1) * s for r, s in zip(part, scale, strict=True)])
        np.testing.assert_allclose(simulate.round_indexer(rows)[:, 32 * half : 32 * half + 32], expected, atol=0)


def test_widths_that_the_simulation_cannot_cut_into_blocks_are_refused_with_the_way_out():
    with pytest.raises(FileError, match=r"96 non-rotary channels.*no-cache-simulation"):
        simulate.check_widths(geometry(attention_key_length=112))
    with pytest.raises(FileError, match=r"power of two from 32 up, not 96"):
        simulate.check_widths(geometry(attention_indexer_key_length=96))
    simulate.check_widths(geometry())
