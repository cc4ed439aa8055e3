"""What only prefill launches: experts' pairs in order, whatever their number; tokens that share the loads of fn."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

mx = pytest.importorskip("mlx.core")

from kernel_shim import COMPILER, WHY_NOT, ShimLauncher  # noqa: E402

from ds4_backend.gguf.shapes import TINY  # noqa: E402
from ds4_backend.ops.kernels import bodies  # noqa: E402
from ds4_backend.ops.kernels.handles import HyperWeights, Spread  # noqa: E402
from ds4_backend.ops.kernels.ops import KernelOps, plain_hyper  # noqa: E402
from ds4_backend.ops.kernels.products import padded  # noqa: E402

pytestmark = pytest.mark.skipif(COMPILER is None, reason=WHY_NOT)
RNG = np.random.default_rng(0)
LANGUAGES = ["cuda", pytest.param("metal", marks=pytest.mark.slow)]


def header(tokens):
    return mx.array(np.array([tokens] + [0] * 31, np.int32))


def header_step(tokens):
    return SimpleNamespace(array=header(tokens))


def planned(language, chosen, g):
    pairs = chosen.size
    count = -(-pairs // bodies.TILE) + g.expert_count
    outputs = [((pairs,), "int32"), ((pairs,), "int32"), ((count, 3), "int32")]
    launcher, inputs = ShimLauncher(language), [header(len(chosen)), mx.array(chosen)]
    return [np.array(a) for a in launcher.run(bodies.plan(g), inputs, outputs, (g.expert_count, 1, 1))]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["even", "one", "first", "last", "full"])
def test_pairs_are_sorted_by_expert_and_stay_in_order(language, kind):
    """Numbers of pairs that fill tiles or leave one open; experts without a pair, at either end too."""
    g = replace(TINY, expert_count=9, expert_used_count=3)
    tokens = {"even": 207, "one": 5, "full": 9 * bodies.TILE // 3}.get(kind, 128)
    chosen = RNG.integers(0, 9, (tokens, 3)).astype(np.int32)
    if kind in ("first", "last"):
        chosen[:] = 0 if kind == "first" else 8
        chosen[70, 1] = 4
    if kind == "full":
        chosen = RNG.permutation(np.repeat(np.arange(9, dtype=np.int32), bodies.TILE)).reshape(tokens, 3)
    order, place, tiles = planned(language, chosen, g)
    np.testing.assert_array_equal(order, np.argsort(chosen.reshape(-1), kind="stable"))
    np.testing.assert_array_equal(place[order], np.arange(chosen.size))
    used = tiles[tiles[:, 0] >= 0]
    assert (tiles[tiles[:, 0] < 0, 0] == -1).all()
    wanted, first = [], 0
    for expert, count in enumerate(np.bincount(chosen.reshape(-1), minlength=9)):
        for done in range(0, count, bodies.TILE):
            wanted.append([expert, first + done, min(bodies.TILE, count - done)])
        first += count
    np.testing.assert_array_equal(used, wanted)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("streams", "width", "fn_type", "head"),
    [(4, 200, "half", False), (2, 520, "float", False), (4, 520, "float", True), (2, 64, "half", True)],
)
def test_tokens_that_share_the_loads_of_fn_give_what_stock_operations_give(
    monkeypatch, language, streams, width, fn_type, head
):
    """Six tokens, four and two to a threadgroup, of widths that do not fill the last round of threads."""
    monkeypatch.setattr(bodies, "HYPER_ALONE", 1)
    g, tokens = replace(TINY, embedding_length=width, hyper_connection_count=streams), 6
    ops, mixes = KernelOps(g, ShimLauncher(language), cache_simulation=False), streams * (streams + 2)

    def normal(*shape):
        return mx.array(RNG.standard_normal(shape).astype(np.float32))

    dtype = np.float16 if fn_type == "half" else np.float32
    fn = RNG.standard_normal((streams if head else mixes, streams * width)).astype(dtype)
    raw, base = mx.array((fn / 8).view(np.uint8)), padded(RNG.standard_normal(mixes))
    weights, norm = HyperWeights(raw, fn_type, padded([0.9, 1.1, 1.2]), base, fn), normal(width)
    given = Spread(normal(tokens, streams, width), normal(tokens, width), normal(tokens, streams * (streams + 1)))
    found = ops._hyper(given, weights, norm, header_step(tokens), head=head, narrow=not head)
    if not head:
        half, x = np.array(found.pop()), np.array(found[2])
        np.testing.assert_array_equal(half, x.astype(np.float16))
    wanted = plain_hyper(g, *given, weights, norm, head)
    for got, expected in zip(found[::2] if head else found, wanted[::2] if head else wanted, strict=True):
        np.testing.assert_allclose(np.array(got), np.array(expected), atol=2e-5 * float(mx.abs(expected).max()))
