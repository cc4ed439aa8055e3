"""Hyper-connections of several tokens: a token's last threadgroup goes on from the sums of all."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from kernel_shim import COMPILER, WHY_NOT, ShimLauncher
from test_kernels_products import RNG, header, normal

from ds4_backend.ops.kernels import bodies
from ds4_backend.ops.kernels.selftest import G

pytestmark = pytest.mark.skipif(COMPILER is None, reason=WHY_NOT)


@pytest.mark.parametrize(("tokens", "width", "post"), [(2, 320, False), (8, 512, True)])
def test_the_last_threadgroup_of_a_token_makes_what_one_threadgroup_would(tokens, width, post):
    """Twice with the same counters: they are zeros again. Widths that threadgroups share evenly, and not."""
    g, launcher = replace(G, embedding_length=width), ShimLauncher("cuda")
    n = g.hyper_connection_count
    mixes = n * (n + 2)
    streams, y, mix = normal(tokens, n, width), normal(tokens, width), RNG.random((tokens, n + n * n), np.float32)
    fn, scales = normal(mixes, n * width).astype(np.float16), np.full(8, 0.1, np.float32)
    base, norm = normal(max(mixes, 8)), normal(width)
    given = [mx.array(a) for a in (streams.reshape(tokens, -1), y, mix)]
    weights = [mx.array(fn.view(np.uint8)), *(mx.array(a.reshape(-1)) for a in (scales, base, norm))]
    shapes = [((tokens, n, width), "float32"), ((tokens, n + n * n), "float32"), ((tokens, width), "float32")]
    kernel = bodies.hyper(g, "half", post, False, 1, "float", False, 256)
    wanted = launcher.run(kernel, [header(tokens), *given, *weights], shapes, (tokens, 1, 1))
    counters, (count, blocks) = mx.zeros((8,), mx.int32), bodies.spread_shape(g)
    for _ in range(2):
        outputs = [shapes[0], ((tokens, count, blocks), "float32"), *shapes[1:]]
        kernel = bodies.spread(g, "half", post, True)
        now, _, mixed, x = launcher.run(kernel, [*given, *weights, counters], outputs, (blocks, tokens, 1))
        for got, whole in zip((now, mixed, x), wanted, strict=True):
            np.testing.assert_allclose(np.array(got), np.array(whole), rtol=2e-5, atol=2e-5)
        assert not np.array(counters).any()
