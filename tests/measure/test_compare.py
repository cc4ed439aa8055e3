"""The comparison with numpy: it passes ops that are right, and fails ones that are not, at whatever place."""

from __future__ import annotations

import numpy as np
import pytest
from random_model import SMALL

from ds4_backend.gguf.shapes import TINY
from ds4_backend.measure import compare as module
from ds4_backend.measure.compare import Case, HalfInputs, cases, one_layer
from ds4_backend.ops.mlx import MlxOps
from ds4_backend.ops.numpy import NumpyOps


def compare(case, ops):
    """At widths that suit a test; rows are too short for the formats with blocks of 256."""
    return module.compare(case, ops, SMALL)


def swapped(monkeypatch, ops):
    monkeypatch.setattr(module, "make_ops", lambda name, g, cache_simulation: ops(g, cache_simulation=cache_simulation))


def test_the_cases_cover_every_kind_recipe_and_form_of_state():
    found = list(cases())
    assert len(found) == 4 * 3 * 2 + 3 == len(set(map(str, found)))
    assert {one_layer(case, TINY).attention_compress_ratios for case in found} == {(0,), (4,), (128,)}
    assert str(found[0]) == "window q2 exact forced"


def test_the_mlx_ops_agree_with_numpy():
    for result in compare(Case("csa", "q8", True, forced=True), "mlx"):
        assert result.ok and result.cosine > 0.9999, result
        assert 0 < result.half_error < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in cases(("q2",)) if case.forced], ids=str)
def test_the_mlx_ops_agree_with_numpy_in_every_kind_of_layer_and_block(case):
    assert all(result.ok for result in module.compare(case, "mlx"))


@pytest.mark.slow
def test_real_choices_agree_in_all_but_single_tokens():
    for result in compare(Case("csa", "mxfp4", False, forced=False), "mlx"):
        assert result.ok and result.middle > 0.9999, result


@pytest.mark.parametrize(
    "op", ["hc_post", "queries", "window_rows", "attend", "grouped_output", "experts", "select", "compress"]
)
def test_an_op_that_is_slightly_wrong_is_found(op, monkeypatch):
    def wrong(self, first, *rest):
        return getattr(NumpyOps, op)(self, first * np.float32(1.02), *rest)

    # what a norm follows does not show a scale: spoil one side of it
    def bent(self, first, *rest):
        return getattr(NumpyOps, op)(self, first + np.float32(0.05) * np.roll(first, 1, -1), *rest)

    scaled = op in ("hc_post", "attend", "grouped_output")
    swapped(monkeypatch, type("Wrong", (NumpyOps,), {op: wrong if scaled else bent}))
    choosing = op == "select"
    results = compare(Case("csa", "q8", False, forced=not choosing), "wrong")
    if choosing:  # only what is chosen changes, and only where it is close
        assert results[0].cosine < 0.99999
    else:
        assert not any(r.ok for r in results), results


def test_numpy_with_rounded_inputs_is_within_its_own_bound(monkeypatch):
    swapped(monkeypatch, HalfInputs)
    for result in compare(Case("hca", "q4", False, forced=True), "half"):
        assert result.ok and result.error == pytest.approx(result.half_error)


def test_nonsense_and_exceptions_are_failures_with_their_reason(monkeypatch):
    def nan(self, *arguments):
        return MlxOps.head(self, *arguments) * float("nan")

    def broken(self, *arguments):
        raise RuntimeError("kernel does not compile")

    swapped(monkeypatch, type("Nan", (MlxOps,), {"head": nan}))
    case = Case("window", "q8", False, forced=True)
    assert not any(result.ok for result in compare(case, "nan"))
    swapped(monkeypatch, type("Broken", (MlxOps,), {"attend": broken}))
    (result,) = compare(case, "broken")
    assert not result.ok and result.trouble == "RuntimeError: kernel does not compile"
