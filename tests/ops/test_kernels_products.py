"""Products with raw blocks by the kernels, in both languages, against decoded matrices."""

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")

from kernel_shim import COMPILER, WHY_NOT, ShimLauncher  # noqa: E402
from test_mlx_blocks import HALVES, random_blocks  # noqa: E402

from ds4_backend.gguf.decode import dequantize  # noqa: E402
from ds4_backend.gguf.formats import FORMATS  # noqa: E402
from ds4_backend.ops.kernels.products import Products, padded  # noqa: E402
from ds4_backend.ops.kernels.projections import Job, blocks_of, project, token_slots  # noqa: E402
from ds4_backend.ops.mlx.linear import Blocks  # noqa: E402

pytestmark = pytest.mark.skipif(COMPILER is None, reason=WHY_NOT)
RNG = np.random.default_rng(0)
ROWS = {"Q8_0": 13, "F16": 6, "Q2_K": 7, "Q4_K": 5, "IQ2_XXS": 9, "MXFP4": 11, "F32": 3, "BF16": 4}
"""Odd numbers of rows of every format, side by side in one launch."""


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def raw_rows(name, rows, columns):
    """Random blocks whose factors keep values of order one, uint8 [rows, bytes]."""
    if name in HALVES:
        raw = random_blocks(name, rows, columns // FORMATS[name].block_size)
        for at in HALVES[name]:
            raw[..., at : at + 2] = (normal(*raw.shape[:-1]) * 0.01).astype(np.float16)[..., None].view(np.uint8)
        if name == "MXFP4":
            raw[..., 0] = RNG.integers(120, 130, raw.shape[:-1])
        return raw.reshape(rows, -1)
    values = normal(rows, columns)
    if name == "BF16":
        return np.ascontiguousarray((values.view(np.uint32) >> 16).astype(np.uint16)).view(np.uint8)
    return values.astype(np.float16 if name == "F16" else np.float32).view(np.uint8)


def matrix(name, rows, columns):
    raw = raw_rows(name, rows, columns)
    return Blocks(mx.array(raw), name, columns, raw), dequantize(raw, FORMATS[name])


def header(tokens):
    return mx.array(np.array([tokens] + [0] * 31, np.int32))


def assert_close(got, expected):
    np.testing.assert_allclose(np.array(got), expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize(
    ("language", "tokens"),
    [("metal", 1), ("cuda", 3), *[pytest.param("metal", n, marks=pytest.mark.slow) for n in (2, 7, 8)]],
)
def test_every_format_side_by_side_at_odd_sizes(language, tokens):
    x, jobs, weights, wanted, at = normal(tokens, 512), [], [], [], 0
    for name, rows in ROWS.items():
        blocks, values = matrix(name, rows, 512)
        jobs.append(Job(name, rows, 512, at))
        weights.append(blocks.raw)
        wanted.append(x @ values.T)
        at += rows
    launcher, slots = ShimLauncher(language), token_slots(tokens)
    inputs = [header(tokens), mx.array(x), *weights, Products(launcher).grid]
    groups = (blocks_of(jobs, slots), 1, 1)
    (got,) = launcher.run(project(tuple(jobs), slots, at), inputs, [((tokens, at), "float32")], groups)
    assert launcher.launches == 1
    assert_close(got, np.concatenate(wanted, 1))


@pytest.mark.slow
@pytest.mark.parametrize("language", ["metal", "cuda"])
@pytest.mark.parametrize(("name", "columns"), [("Q8_0", 96), ("F16", 40), ("F32", 8), ("MXFP4", 32), ("BF16", 264)])
@pytest.mark.parametrize("tokens", [1, 2])
def test_rows_that_end_within_a_tile(language, name, columns, tokens):
    blocks, values = matrix(name, 5, columns)
    x, job = normal(tokens, columns), Job(name, 5, columns, 0)
    inputs, groups = [header(tokens), mx.array(x), blocks.raw], (blocks_of([job], tokens), 1, 1)
    (got,) = ShimLauncher(language).run(project((job,), tokens, 5), inputs, [((tokens, 5), "float32")], groups)
    assert_close(got, x @ values.T)


@pytest.mark.parametrize(("language", "columns"), [("cuda", 1088), pytest.param("metal", 1536, marks=pytest.mark.slow)])
def test_groups_and_pairs_of_one_token(language, columns):
    """Widths whose tiles four simdgroups do not share evenly; groups of fewer rows than a threadgroup takes."""
    (a, left), (b, gate), (c, up) = (matrix("Q8_0", rows, columns) for rows in (24, 9, 9))
    x = normal(1, 3 * columns)
    jobs = (
        Job("Q8_0", 24, columns, 0, stride=3 * columns, groups=3),
        Job("Q8_0", 9, columns, 24, paired=True, clamp=0.5),
    )
    inputs = [header(1), mx.array(x), a.raw, b.raw, c.raw]
    groups = (blocks_of(jobs, 1), 1, 1)
    (got,) = ShimLauncher(language).run(project(jobs, 1, 33), inputs, [((1, 33), "float32")], groups)
    low = np.concatenate([x[0, i * columns :][:columns] @ left[i * 8 :][:8].T for i in range(3)])
    g, u = (np.minimum(x[0, :columns] @ w.T, 0.5) for w in (gate, up))
    wanted = np.concatenate([low, g / (1 + np.exp(-g)) * np.maximum(u, -0.5)])
    assert_close(got[0], wanted)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["metal", "cuda"])
def test_decoded_matrices_are_those_of_the_file_as_float16(language):
    pairs = [matrix(name, rows, 512) for name, rows in ROWS.items()]
    got = np.array(Products(ShimLauncher(language)).decoded(*(blocks for blocks, _ in pairs)))
    wanted = np.concatenate([values for _, values in pairs]).astype(np.float16)
    np.testing.assert_allclose(got[: len(wanted)].astype(np.float32), wanted.astype(np.float32), rtol=1e-3, atol=1e-6)


def test_small_vectors_are_padded_to_what_metal_calls_an_array():
    assert padded(np.ones(3)).tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert padded(np.arange(9)).shape == (9,)
