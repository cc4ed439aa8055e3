"""Products on tensor cores: the primitive by NVIDIA's tables, every format's fragments, tables of IQ2_XXS."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from kernel_shim import COMPILER, WHY_NOT, ShimLauncher
from test_kernels_products import RNG, header, matrix, normal

from ds4_backend.ops.kernels import bodies, kernel, wide
from ds4_backend.ops.kernels.kernel import Kernel
from ds4_backend.ops.kernels.products import Products
from ds4_backend.ops.kernels.projections import Job
from ds4_backend.ops.kernels.selftest import G

needs_compiler = pytest.mark.skipif(COMPILER is None, reason=WHY_NOT)
PRIMITIVE = """
const uint lane = thread_index_in_simdgroup, g = lane / 4, t = lane % 4;
device const uint* a = (device const uint*)left;
device const uint* b = (device const uint*)right;
SUM c[4] = {1, 1, 1, 1};
PRODUCT(c, a[g * 8 + t], a[(g + 8) * 8 + t], a[g * 8 + t + 4], a[(g + 8) * 8 + t + 4],
        b[g * 8 + t], b[g * 8 + t + 4]);
y[g * 8 + 2 * t] = c[0];
y[g * 8 + 2 * t + 1] = c[1];
y[(g + 8) * 8 + 2 * t] = c[2];
y[(g + 8) * 8 + 2 * t + 1] = c[3];
"""
SHARE = """
const uint lane = thread_index_in_simdgroup, warp = simdgroup_index_in_threadgroup;
threadgroup float part[2 * 16 * 8 * 8];
STAGE
TABLES
typedef Shares<K, 8> S;
const Sixteen rows[2] = {sixteen<FORMAT, K>(w, ROWS, 0, lane), sixteen<FORMAT, K>(w, ROWS, 16, lane)};
float acc[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
if (warp < S::SPLIT) {
  Held<FORMAT, false, false> column;
  column.lane = lane;
  column.x = x + lane / 4 * K;
  multiply_rows<Fragment<FORMAT>, S::TILES, S::EACH, 2, COPIED>(rows, column, acc, warp * S::EACH, lane, warp, stage,
                                                               tables);
  store_share<8>(acc, part + warp * 128, lane);
  store_share<8>(acc + 4, part + (S::SPLIT + warp) * 128, lane);
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint i = thread_index_in_threadgroup; i < ROWS * 8; i += THREADS)
  y[i] = sum_shares<S::SPLIT, 8>(part, i / 8, i % 8);
"""
COLUMN = """
const uint lane = thread_index_in_simdgroup, warp = simdgroup_index_in_threadgroup;
typedef Digit<FORMAT> P;
threadgroup float part[2 * 16 * 8];
threadgroup uint4 xs[K / 256 * P::RECORD];
STAGE
fill_digits<P, K, 8, K / 256 * P::RECORD>(x, xs, lane, warp);
TABLES
typedef Shares<K, 8> S;
const Sixteen rows[2] = {sixteen<FORMAT, K>(w, ROWS, 0, lane), sixteen<FORMAT, K>(w, ROWS, 16, lane)};
float acc[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
if (warp < S::SPLIT) {
  Kept<P> column;
  column.records = xs;
  column.lane = lane;
  multiply_rows<P, S::TILES, S::EACH, 2, COPIED>(rows, column, acc, warp * S::EACH, lane, warp, stage, tables);
  store_column(acc, part + warp * 16, lane);
  store_column(acc + 4, part + (S::SPLIT + warp) * 16, lane);
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (uint i = thread_index_in_threadgroup; i < ROWS; i += THREADS) y[i] = sum_shares<S::SPLIT, 1>(part, i, 0);
"""


@needs_compiler
def test_a_tensor_product_takes_its_operands_as_nvidia_lays_them_out():
    a, b = (normal(rows, 16).astype(np.float16) for rows in (16, 8))
    body = Kernel("append", ("left", "right"), ("y",), 32, {}, ("mma",),
                  {"BODY": PRIMITIVE, "SUM": "float", "PRODUCT": "tensor_product"})  # fmt: skip
    (got,) = ShimLauncher("cuda").run(body, [mx.array(a), mx.array(b)], [((16, 8), "float32")], (1, 1, 1))
    wanted = 1 + a.astype(np.float32) @ b.astype(np.float32).T
    np.testing.assert_allclose(np.array(got), wanted, rtol=1e-5, atol=1e-5)


@needs_compiler
def test_a_product_of_bytes_takes_its_operands_as_nvidia_lays_them_out():
    a, b = (RNG.integers(-128, 128, (rows, 32), np.int8) for rows in (16, 8))
    body = Kernel("append", ("left", "right"), ("y",), 32, {}, ("mma",),
                  {"BODY": PRIMITIVE, "SUM": "int", "PRODUCT": "whole_product"})  # fmt: skip
    inputs = [mx.array(a.view(np.int32)), mx.array(b.view(np.int32))]
    (got,) = ShimLauncher("cuda").run(body, inputs, [((16, 8), "float32")], (1, 1, 1))
    np.testing.assert_array_equal(np.array(got), 1 + a.astype(np.int32) @ b.astype(np.int32).T)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", kernel.DIGITS)
@pytest.mark.parametrize("columns", [256, 768, 2048, 2560])
def test_sixteen_rows_times_one_column_of_whole_numbers(name, columns):
    """All sums are exact: what is off is x, by half of 1 / 32512 of its tile's largest value at most. The first tile
    has a value that dwarfs the others, the last is all zeros."""
    blocks, values = matrix(name, 21, columns)
    x = normal(1, columns)
    x[0, 7] = 300
    if columns > 256:
        x[0, -256:] = 0
    text, extra = wide.tables([name], digits=True)
    constants = {"K": columns, "ROWS": 21, "FORMAT": name}
    parts = {"BODY": COLUMN.replace("STAGE", wide.stage([name])).replace("TABLES", text)}
    body = Kernel("append", ("w", "x", *extra), ("y",), 256, constants, (*wide.LIBRARIES, "digits"), parts)
    launcher = ShimLauncher("cuda")
    inputs = [blocks.raw, mx.array(x), *Products(launcher).table(blocks, widely=True)]
    (got,) = launcher.run(body, inputs, [((21,), "float32")], (1, 1, 1))
    tiles = x.reshape(-1, 256)
    step = np.abs(tiles).max(1, keepdims=True) / 32512
    bound = (0.51 * step * np.abs(values).reshape(21, -1, 256)).sum((1, 2)) + 1e-6 * np.abs(values * x).sum(1)
    wanted = values @ x[0]
    assert (np.abs(np.array(got) - wanted) <= bound).all()
    rounded = (np.round(tiles / np.maximum(step, 1e-30)) * step).reshape(-1)
    np.testing.assert_allclose(np.array(got), values @ rounded, atol=3e-5 * np.abs(wanted).max(), rtol=0)


@needs_compiler
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_column_that_is_no_number_does_not_become_one(bad):
    """Digits would be whole numbers whatever they were made of: the scale carries it."""
    blocks, _ = matrix("Q8_0", 21, 512)
    x = normal(1, 512)
    x[0, 300] = bad
    parts = {"BODY": COLUMN.replace("STAGE", wide.stage(["Q8_0"])).replace("TABLES", wide.tables(["Q8_0"])[0])}
    constants = {"K": 512, "ROWS": 21, "FORMAT": "Q8_0"}
    body = Kernel("append", ("w", "x"), ("y",), 256, constants, (*wide.LIBRARIES, "digits"), parts)
    (got,) = ShimLauncher("cuda").run(body, [blocks.raw, mx.array(x)], [((21,), "float32")], (1, 1, 1))
    assert not np.isfinite(np.array(got)).any()


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", wide.FORMATS)
@pytest.mark.parametrize("columns", [256, 768, 2048, 2560])
def test_sixteen_rows_times_eight_columns(name, columns):
    """Weights are exact: only x is rounded to float16. Widths that eight simdgroups share evenly, and not."""
    blocks, values = matrix(name, 21, columns)
    x = normal(8, columns)
    text, extra = wide.tables([name])
    constants = {"K": columns, "ROWS": 21, "FORMAT": name}
    text = SHARE.replace("STAGE", wide.stage([name])).replace("TABLES", text)
    body = Kernel("append", ("w", "x", *extra), ("y",), 256, constants, wide.LIBRARIES, {"BODY": text})
    launcher = ShimLauncher("cuda")
    inputs = [blocks.raw, mx.array(x), *Products(launcher).table(blocks, widely=True)]
    (got,) = launcher.run(body, inputs, [((21, 8), "float32")], (1, 1, 1))
    wanted = values @ x.astype(np.float16).astype(np.float32).T
    np.testing.assert_allclose(np.array(got), wanted, atol=2e-5 * np.abs(wanted).max(), rtol=0)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(("tokens", "enough"), [(2, 1), (8, 1000)])
def test_matrices_side_by_side_in_groups_and_in_pairs(monkeypatch, tokens, enough):
    """Few rows of a matrix a threadgroup and many; two groups of a matrix read their own x; odd numbers of rows."""
    monkeypatch.setattr(wide, "ENOUGH", enough)
    wide.project.cache_clear()
    (a, left), (b, gate), (c, up), (d, right) = (
        matrix(name, rows, 512) for name, rows in (("Q8_0", 512), ("Q4_K", 75), ("Q4_K", 75), ("F16", 35))
    )
    x = normal(tokens, 1024)
    jobs = (
        Job("Q8_0", 512, 512, 0, stride=1024, groups=2),
        Job("Q4_K", 75, 512, 512, stride=1024, paired=True, clamp=0.5),
        Job("F16", 35, 512, 587, stride=1024),
    )
    assert wide.fits(jobs)
    inputs = [header(tokens), mx.array(x), a.raw, b.raw, c.raw, d.raw]
    groups = (wide.blocks_of(jobs), 1, 1)
    (got,) = ShimLauncher("cuda").run(wide.project(jobs, 622), inputs, [((tokens, 622), "float32")], groups)
    half = x.astype(np.float16).astype(np.float32)
    one, two = half[:, :512], half[:, 512:]
    g, u = (np.clip(one @ w.T, -20, 0.5) for w in (gate, up))
    swiglu = g / (1 + np.exp(-g)) * np.maximum(u, -0.5)
    wanted = np.concatenate([one @ left[:256].T, two @ left[256:].T, swiglu, one @ right.T], axis=1)
    wide.project.cache_clear()
    np.testing.assert_allclose(np.array(got), wanted, atol=3e-5 * np.abs(wanted).max(), rtol=0)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", wide.FORMATS)
@pytest.mark.parametrize("clamp", [None, 2.0])
def test_a_prefill_tile_multiplies_the_pairs_of_one_expert(name, clamp):
    """Tiles of few pairs and of many, one that is unused; rows that no threadgroup's divide."""
    rows, columns, used, counts = 70, 512, 2, (3, 32, 0, 17)
    experts = [matrix(name, rows, columns) for _ in counts]
    ups = [matrix(name, rows, columns) for _ in counts]
    order = RNG.permutation(sum(counts)).astype(np.int32)
    x = normal(sum(counts) // used if clamp else sum(counts), columns).astype(np.float16)
    listed, first = [], 0
    for expert, count in enumerate(counts):
        listed.append((expert if count else -1, first, count))
        first += count
    launcher, dtype = ShimLauncher("cuda"), "float16" if clamp else "float32"
    (got,) = launcher.run(
        wide.tiles(name, rows, columns, used, clamp),
        [
            mx.array(np.array(listed, np.int32)), mx.array(order), mx.array(x),
            mx.array(np.stack([b.owner for b, _ in experts])), mx.array(np.stack([b.owner for b, _ in ups])),
            *Products(launcher).table(experts[0][0], widely=True),
        ],
        [((first, rows), dtype)], (-(-rows // wide.PAIR_ROWS), len(listed), 1),
    )  # fmt: skip
    wanted = []
    for (expert, begin, count), (_, gate), (_, up) in zip(listed, experts, ups, strict=True):
        given = (x[order[begin : begin + count] // used] if clamp else x[begin : begin + count]).astype(np.float32)
        g = given @ gate.T
        if expert >= 0 and clamp:
            g = np.clip(g, -50, clamp)
            g = g / (1 + np.exp(-g)) * np.clip(given @ up.T, -clamp, clamp)
        wanted.append(g)
    wanted = np.concatenate(wanted)
    np.testing.assert_allclose(np.array(got), wanted, atol=(1e-3 if clamp else 2e-5) * np.abs(wanted).max(), rtol=0)


@needs_compiler
@pytest.mark.parametrize(
    ("format", "shared", "sixteens", "rows", "columns"),
    [
        ("Q2_K", "Q8_0", 2, 40, 768),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("Q2_K", "Q8_0", 1, 27, 2560), ("IQ2_XXS", "Q8_0", 2, 40, 768), ("Q8_0", "Q8_0", 2, 27, 2560),
                ("Q4_K", "Q2_K", 2, 40, 768), ("Q2_K", "IQ2_XXS", 2, 27, 512), ("F16", "Q4_K", 2, 40, 256),
            )
        ),
    ],
)  # fmt: skip
def test_down_of_the_chosen_and_of_the_shared_expert(format, shared, sixteens, rows, columns):
    """Sixteen rows a simdgroup and thirty-two, of two tokens; formats of digits and of float16 beside each other."""
    g = replace(G, embedding_length=rows, expert_feed_forward_length=columns, expert_count=3, expert_used_count=2)
    experts = [matrix(format, rows, columns) for _ in range(3)]
    beside, values = matrix(shared, rows, columns)
    mid, shared_mid = normal(2, 2, columns), normal(2, 8 + columns)
    chosen = np.array([2, 0, 1, 2, 0, 0, 0, 0], np.int32)
    launcher = ShimLauncher("cuda")
    table = Products(launcher).table(experts[0][0], beside, widely=True)
    down = mx.array(np.stack([blocks.owner for blocks, _ in experts]))
    inputs = [mx.array(mid), mx.array(chosen), down, mx.array(shared_mid), beside.raw, *table]
    groups = (-(-rows // wide.rows_of_block(columns, sixteens)), 2, 1)
    body = bodies.wide_down(g, format, shared, 8 + columns, 8, sixteens)
    (got,) = launcher.run(body, inputs, [((2, rows), "float32")], groups)
    wanted = shared_mid[:, 8:] @ values.T
    for token in range(2):
        for slot in range(2):
            wanted[token] += experts[chosen[2 * token + slot]][1] @ mid[token, slot]
    exact = format in kernel.DIGITS and shared in kernel.DIGITS
    error = np.linalg.norm(np.array(got) - wanted) / np.linalg.norm(wanted)
    assert error < (1e-4 if exact else 4e-4)


def test_experts_of_a_threadgroup_leave_room_for_their_sums():
    """Eight experts of a wide model: their sums, tables and x are 49 KB together."""
    assert wide.slots(6, 1024, "IQ2_XXS", 4096) == 6
    assert wide.slots(8, 4096, "IQ2_XXS", 7168) == 4
    assert wide.slots(6, 128, "IQ2_XXS", 4096) == 2
    assert wide.slots(7, 128, "Q8_0", 4096) == 1


def test_only_whole_tiles_of_known_formats_are_taken():
    assert wide.takes("Q8_0", 512)
    assert not wide.takes("Q8_0", 480)
    assert not wide.takes("BF16", 512)


def test_signs_are_picked_in_even_numbers_beside_the_magnitudes():
    picks = wide.picks(np.array([[8, 25, 43, 8, 8, 8, 8, 43]] * 256, np.uint8))
    assert hex(picks[0]) == "0x20000210"
    assert [hex(p) for p in picks[[256, 257, 259]]] == ["0x0", "0x40000004", "0x44"]
