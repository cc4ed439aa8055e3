"""The shim itself: what a GPU would answer with a hang or with nonsense is an error here."""

import mlx.core as mx
import numpy as np
import pytest
from kernel_shim import COMPILER, WHY_NOT, ShimError, ShimLauncher

from ds4_backend.ops.kernels.kernel import Kernel

pytestmark = pytest.mark.skipif(COMPILER is None, reason=WHY_NOT)
X = np.arange(64, dtype=np.float32)


def run(body, language, lanes=64, outputs=64, libraries=()):
    kernel = Kernel("append", ("x",), ("y",), lanes, libraries=libraries, parts={"BODY": body})
    (got,) = ShimLauncher(language).run(kernel, [mx.array(X)], [((outputs,), "float32")], (1, 1, 1))
    return np.array(got)


WRONG = {
    "divergent": ("if (thread_index_in_threadgroup < 32) threadgroup_barrier(mem_flags::mem_threadgroup);", "missed"),
    "half a simdgroup": ("if (thread_index_in_threadgroup % 2) y[0] = simd_sum(x[0]);", "missed"),
    "different operations": (
        "y[0] = thread_index_in_threadgroup % 2 ? simd_sum(x[0]) : simd_shuffle_xor(x[0], ushort(1));", "different"
    ),
    "too much memory": ("threadgroup float big[9000]; big[0] = 0.0f;", "32 KiB"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["divergent", *(pytest.param(n, marks=pytest.mark.slow) for n in [*WRONG][1:])])
def test_what_would_hang_a_gpu_is_an_error(name):
    body, words = WRONG[name]
    with pytest.raises(ShimError, match=words):
        run(body, "metal")


def test_a_missing_barrier_shows_because_lanes_run_in_random_order():
    body = "threadgroup float row[64]; const uint i = thread_index_in_threadgroup; row[i] = x[i]; BARRIER"
    body += " y[i] = row[63 - i];"
    barrier = "threadgroup_barrier(mem_flags::mem_threadgroup);"
    np.testing.assert_array_equal(run(body.replace("BARRIER", barrier), "metal"), X[::-1])
    assert np.isnan(run(body.replace("BARRIER", ""), "metal")).any()


@pytest.mark.slow
def test_what_nobody_writes_is_nan():
    got = run("if (thread_index_in_threadgroup < 60) y[thread_index_in_threadgroup] = 1.0f;", "cuda")
    assert (got[:60] == 1).all() and np.isnan(got[60:]).all()


@pytest.mark.parametrize("language", ["metal", pytest.param("cuda", marks=pytest.mark.slow)])
def test_float16_is_rounded_once_to_nearest_even(language):
    """Ties, subnormals, the largest number and what lies beyond it."""
    values = [1 + 2.0**-11, 1 + 3 * 2.0**-11, 2.0**-24, 2.0**-25, 3 * 2.0**-25, 65504, 65519, 65520, 1e9, -0.1, 6.1e-5]
    text = ", ".join(f"{np.float32(v)!s}f" if "." in str(np.float32(v)) else f"{np.float32(v):.8e}f" for v in values)
    body = f"const float v[{len(values)}] = {{{text}}}; if (thread_index_in_threadgroup == 0) "
    body += f"for (int i = 0; i < {len(values)}; ++i) y[i] = float(half(v[i]));"
    with np.errstate(over="ignore"):
        wanted = np.array(values, np.float32).astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(run(body, language, outputs=len(values)), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["metal", "cuda"])
def test_tiles_multiply_scale_and_transpose(language):
    body = """
threadgroup half a[256]; threadgroup half b[256]; threadgroup float c[256];
const uint i = thread_index_in_threadgroup;
for (uint k = i; k < 256; k += 32) { a[k] = half(x[k % 61]); b[k] = half(x[k % 53]); c[k] = float(k / 16); }
threadgroup_barrier(mem_flags::mem_threadgroup);
TileA ta; TileB tb; TileBt tt; TileC sum; TileC rows;
tile_load(ta, a, 16); tile_load(tb, b, 16); tile_load(tt, b, 16); tile_load(rows, c, 16);
tile_clear(sum);
tile_product(sum, ta, tb);
for (uint e = 0; e < TILE_ELEMENTS; ++e) tile_set(sum, e, tile_get(sum, e) * tile_get(rows, e));
tile_product(sum, ta, tt);
tile_store(sum, y, 16);
"""
    got = run(body, language, lanes=32, outputs=256, libraries=("tiles",)).reshape(16, 16)
    a, b = (X[np.arange(256) % n].reshape(16, 16) for n in (61, 53))
    np.testing.assert_array_equal(got, (a @ b) * np.arange(16)[:, None] + a @ b.T)
