"""Whole layers by the kernels, on the CPU through the shim, against the numpy ops: every body, both languages.

Cases and tolerance are those of `ds4_backend.measure.compare`: cosine at least 0.9995, and at most twice the error that
numpy makes with float16 inputs.
"""

import numpy as np
import pytest
from kernel_shim import COMPILER, WHY_NOT, ShimLauncher
from random_model import geometry, random_ids, random_model, random_tensors

from ds4_backend.gguf.shapes import TINY
from ds4_backend.measure import compare as module
from ds4_backend.measure.compare import Case, compare
from ds4_backend.model import Model
from ds4_backend.model.weights import bind
from ds4_backend.ops.kernels.ops import KernelOps

pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason=WHY_NOT)]


def check(monkeypatch, language, case, **lengths):
    def ops(name, g, cache_simulation):
        return KernelOps(g, ShimLauncher(language), cache_simulation=cache_simulation)

    monkeypatch.setattr(module, "make_ops", ops)
    for name, value in {"PROMPT": 36, "DECODED": 5, "CROWD": 3, "CROWD_STEPS": 1, **lengths}.items():
        monkeypatch.setattr(module, name, value)
    for result in compare(case, language, TINY):
        assert result.ok, result


@pytest.mark.parametrize("language", ["metal", "cuda"])
@pytest.mark.parametrize(
    "case",
    [
        Case("csa", "q2", True, True),
        Case("csa", "mxfp4", False, False),
        Case("window", "q4", False, True, hashed=True),
        Case("hca", "q2", False, True),
    ],
    ids=str,
)
def test_layers_agree_with_numpy(monkeypatch, language, case):
    check(monkeypatch, language, case)


@pytest.mark.parametrize("language", ["metal", "cuda"])
def test_a_window_of_128_tokens_closes_in_prefill_and_in_decode(monkeypatch, language):
    check(monkeypatch, language, Case("hca", "q2", True, True), PROMPT=254, DECODED=3)


SMALL = geometry(
    block_count=2,
    attention_compress_ratios=(4, 128),
    attention_head_count=2,
    attention_indexer_head_count=4,
    expert_count=4,
    expert_feed_forward_length=64,
    hash_layer_count=1,
    hyper_connection_sinkhorn_iterations=2,
    swiglu_clamp_exp=(2.0,) * 2,
)


def shim_model(language, seed=3):
    ops = KernelOps(SMALL, ShimLauncher(language), cache_simulation=False)
    return Model(SMALL, ops, bind(random_tensors(SMALL, seed), SMALL, ops))


def test_a_conversation_moves_between_numpy_and_the_kernels():
    """Exported by one, continued by the other, in both directions; pages, tails and open windows."""
    ids = random_ids(140, SMALL, seed=9)
    models = [random_model(SMALL, seed=3), shim_model("metal")]
    snapshots = []
    for model in models:
        sequence = model.new_sequence()
        model.forward([(sequence, ids[:131])])
        snapshots.append(sequence.export())
    for part in ("pages", "tail"):
        one, other = (getattr(s, part) for s in snapshots)
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_allclose(other[name], one[name], atol=2e-2, err_msg=name)
    moved = [m.import_sequence(s) for m, s in zip(models, reversed(snapshots), strict=True)]
    expected, got = (m.forward([(s, ids[131:133])]) for m, s in zip(models, moved, strict=True))
    np.testing.assert_allclose(got, expected, atol=2e-2)


def test_growing_the_state_keeps_what_it_holds():
    model = shim_model("metal")
    ids = random_ids(12, SMALL, seed=2)
    first, second = model.new_sequence(), model.new_sequence()
    model.forward([(first, ids[:9])])
    before = first.export_tail()
    model.state.reserve(100, 50)
    after = first.export_tail()
    assert model.state.pages >= 100 and model.state.slots >= 50
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    got = model.forward([(second, ids), (first, ids[9:])])
    np.testing.assert_allclose(got[0], got[1], atol=5e-3)
