"""Logits against recorded ones of independent implementations (tests/model/golden/make_golden.py makes them again)."""

from pathlib import Path

import numpy as np
import pytest
from random_model import SMALL, geometry, random_ids, random_model

GOLDEN = Path(__file__).parent / "golden"
TOKENS = 320
CASES = {
    "small": (SMALL, 0),
    "wide_window": (geometry(attention_sliding_window=128, attention_compress_ratios=(0, 0, 4, 128, 4, 0)), 1),
    "pro_like": (
        geometry(attention_compress_ratios=(128, 128, 4, 128, 4, 4), hash_layer_count=3, expert_used_count=3),
        2,
    ),
}


def logits(g, seed, chunk, *, simulated=False, ops="numpy"):
    model = random_model(g, seed=seed, cache_simulation=simulated, ops=ops)
    sequence, ids = model.new_sequence(), random_ids(TOKENS, g, seed)
    return np.concatenate(
        [model.forward([(sequence, ids[at : at + chunk])], every=True) for at in range(0, TOKENS, chunk)]
    )


# Token by token takes seconds: one network is enough for the fast tests.
ONE_BY_ONE = [pytest.param(case, 1, marks=[pytest.mark.slow] * (case != "small")) for case in CASES]


@pytest.mark.parametrize(
    ("case", "chunk"), [*ONE_BY_ONE, *((case, chunk) for chunk in (47, 128, TOKENS) for case in CASES)]
)
def test_logits_equal_those_of_transformers(case, chunk):
    expected = np.load(GOLDEN / "transformers.npz")[case]
    got = logits(*CASES[case], chunk)[-len(expected) :]
    np.testing.assert_allclose(got, expected, atol=1e-3)
    np.testing.assert_array_equal(got.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.slow), 128])
def test_with_the_simulation_logits_stay_within_the_references_own_rounding_noise(chunk):
    # A value on a rounding boundary falls either way, after which rows differ by a whole E4M3 step; the recorded noise
    # is how far the reference moves from itself for that reason.
    golden = np.load(GOLDEN / "simulated.npz")
    got = logits(SMALL, 0, chunk, simulated=True)
    distance = np.abs(got[-len(golden["logits"]) :] - golden["logits"]).max(1)
    assert distance.max() <= golden["noise"].max()
    assert (got.argmax(1) == golden["argmax"]).mean() >= 0.99
    plain = logits(SMALL, 0, 128)[-len(golden["logits"]) :]
    assert np.median(np.abs(plain - golden["logits"]).max(1)) > 10 * np.median(distance)  # the test can tell them apart
