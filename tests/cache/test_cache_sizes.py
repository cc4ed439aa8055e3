"""The benchmark's sizes are the model's: held against the sizes that ds4 logs, and against a hand count."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("kv_session", ROOT / "benchmarks" / "kv_session.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("tokens", "mib"), [(20_480, 291.80), (40_960, 560.70), (81_920, 1_098.53)])
def test_a_state_of_ds4_has_the_logged_size(bench, tokens, mib):
    assert bench.ds4_state(tokens) / 2**20 == pytest.approx(mib, rel=0.001)


def test_blocks_and_tails_have_the_real_sizes(bench):
    assert (bench.SIZES["packed"].block, bench.SIZES["packed"].tail) == (449_824, 3_644_416)
    assert (bench.SIZES["half"].block, bench.SIZES["half"].tail) == (880_640, 6_066_176)


def test_ds4_writes_what_its_policy_says(bench):
    assert bench.ds4_bytes(0) == pytest.approx(11.5e9, rel=0.01)
    assert bench.ds4_bytes(0) < bench.ds4_bytes(3) < bench.ds4_bytes(1)
