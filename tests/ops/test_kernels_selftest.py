"""The self-test that `doctor` runs: right kernels pass, wrong ones and ones that do not compile are named."""

import numpy as np
import pytest
from kernel_shim import COMPILER, WHY_NOT, ShimLauncher
from random_model import geometry, random_ids, random_model, random_tensors

from ds4_backend.model import Model
from ds4_backend.model.weights import bind
from ds4_backend.ops import self_tests
from ds4_backend.ops.kernels.kernel import FORMATS
from ds4_backend.ops.kernels.ops import KernelOps
from ds4_backend.ops.kernels.selftest import FAMILIES, all_tests, run

needs_compiler = pytest.mark.skipif(COMPILER is None, reason=WHY_NOT)


class Wrong(ShimLauncher):
    """Every result a tenth too large."""

    def run(self, kernel, inputs, outputs, groups):
        return [a * 1.1 if "float" in str(a.dtype) else a for a in super().run(kernel, inputs, outputs, groups)]


class Refusing(ShimLauncher):
    def run(self, kernel, inputs, outputs, groups):
        raise RuntimeError("Failed to compile kernel: no such thing")


def test_every_format_and_family_is_tested():
    names = " ".join(test.body for test in all_tests())
    assert all(format in names for format in FORMATS)
    assert {test.family for test in all_tests()} == set(FAMILIES)


def test_a_kernel_that_does_not_compile_is_named_with_the_compilers_words():
    (outcome,) = run(Refusing(), ("head",))
    assert not outcome.ok and "no such thing" in outcome.trouble and outcome.family == "hyper"


def test_ops_without_kernels_of_their_own_have_no_self_tests():
    assert list(self_tests("mlx")) == [] == list(self_tests("numpy"))


@pytest.mark.slow
@needs_compiler
def test_right_kernels_pass_and_wrong_ones_do_not():
    names = ("hyper few", "spread", "project Q8_0", "experts MXFP4")
    for launcher, wanted in ((ShimLauncher(), True), (Wrong(), False)):
        outcomes = list(run(launcher, names))
        assert [o.body for o in outcomes] == ["project Q8_0", "hyper few", "spread", "experts MXFP4"]
        assert all(o.ok is wanted for o in outcomes), outcomes


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("without", [("products",), ("hyper", "experts")])
def test_stock_operations_take_the_place_of_a_family(without):
    g = geometry(
        block_count=2,
        attention_compress_ratios=(4, 0),
        attention_head_count=2,
        expert_count=4,
        hash_layer_count=1,
        hyper_connection_sinkhorn_iterations=2,
        swiglu_clamp_exp=(2.0,) * 2,
    )
    launcher = ShimLauncher()
    ops = KernelOps(g, launcher, cache_simulation=False, without=frozenset(without))
    model, ids = Model(g, ops, bind(random_tensors(g), g, ops)), random_ids(13, g)
    results = []
    for one in (random_model(g), model):
        sequence = one.new_sequence()
        results.append(
            np.concatenate([one.forward([(sequence, ids[:11])], every=True), one.forward([(sequence, ids[11:])])])
        )
    np.testing.assert_allclose(results[1], results[0], atol=2e-2)
    gone = {
        "products": {"project", "decode", "experts_up", "tiles"},
        "hyper": {"hyper"},
        "experts": {"experts_up", "tiles"},
    }
    assert not set(launcher.names) & set().union(*(gone[family] for family in without))
    assert {"append", "attend", "combine"} <= set(launcher.names)
