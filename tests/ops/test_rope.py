"""Frequencies per layer kind, against the closed form and known values of V4-Flash."""

import numpy as np
from random_model import geometry

from ds4_backend.ops.numpy.arithmetic import rotate, rotation
from ds4_backend.ops.rope import angles, frequencies

FLASH = geometry(attention_key_length=512, rope_dimension_count=64, attention_indexer_key_length=128)


def test_window_layers_rotate_with_base_10000_and_no_scaling():
    expected = 10000.0 ** (-2 * np.arange(32) / 64)
    np.testing.assert_allclose(frequencies(FLASH, 0), expected, rtol=1e-6)


def test_compressed_layers_keep_fast_channels_and_slow_the_others_by_sixteen():
    plain = 160000.0 ** (-2 * np.arange(32) / 64)
    table = frequencies(FLASH, 4)
    np.testing.assert_allclose(table[:16], plain[:16], rtol=1e-6)  # the ramp begins after channel 15
    np.testing.assert_allclose(table[25:], plain[25:] / 16, rtol=1e-6)  # and ends at channel 25
    ramp = (20 - 15) / (25 - 15)
    np.testing.assert_allclose(table[20], plain[20] * (1 - ramp) + plain[20] / 16 * ramp, rtol=1e-6)
    np.testing.assert_array_equal(table, frequencies(FLASH, 128))


def test_without_scaling_compressed_layers_only_change_the_base():
    plain = 160000.0 ** (-2 * np.arange(32) / 64)
    table = frequencies(
        geometry(
            rope_dimension_count=64,
            attention_key_length=512,
            rope_scaling_type="none",
            attention_indexer_key_length=128,
        ),
        4,
    )
    np.testing.assert_allclose(table, plain, rtol=1e-6)


def test_angles_are_a_float32_product():
    table = frequencies(FLASH, 0)
    far = angles(np.array([1_000_000], np.int32), table)
    assert far.dtype == np.float32
    np.testing.assert_array_equal(far[0], np.float32(1_000_000) * table)


def test_rotation_turns_adjacent_pairs_and_leaves_the_other_channels():
    x = np.array([[7.0, 8.0, 1.0, 0.0, 0.0, 1.0]], np.float32)  # 2 plain channels, 2 pairs
    quarter = rotation(np.array([[np.pi / 2, np.pi / 2]], np.float32))
    rotate(x, quarter)
    np.testing.assert_allclose(x, [[7, 8, 0, 1, -1, 0]], atol=1e-6)
    rotate(x, quarter.conj())
    np.testing.assert_allclose(x, [[7, 8, 1, 0, 0, 1]], atol=1e-6)
