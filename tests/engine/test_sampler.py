from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ds4_backend.engine.defaults import sampling_defaults
from ds4_backend.engine.sampler import Sampler, Settings, candidates, place_of, settle
from ds4_backend.errors import EngineError, FileError, RequestError
from ds4_backend.types import Sampling

# Apart by 1/64 at least, so that no two are equally likely.
rows = arrays(np.int32, st.integers(1, 40), elements=st.integers(-1920, 1920), unique=True).map(
    lambda steps: (steps / 64).astype(np.float32)
)
options = st.builds(
    Settings,
    temperature=st.floats(0.05, 2),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 50),
    min_p=st.floats(0, 1),
    seed=st.just(0),
)


def ranked(logits: np.ndarray, chosen: Settings) -> tuple[list[int], np.ndarray]:
    """What top_k and min_p leave, likeliest first, and all probabilities: types.Sampling over a full sort."""
    p = np.exp((logits.astype(np.float64) - logits.max()) / chosen.temperature)
    p /= p.sum()
    order = list(np.argsort(-logits))  # very unlikely ones may all have probability 0
    if chosen.top_k:
        order = order[: chosen.top_k]
    return [int(i) for i in order if p[i] >= chosen.min_p * p.max()], p


@settings(max_examples=150)
@given(rows, options)
def test_the_candidates_are_those_of_a_full_sort(logits: np.ndarray, chosen: Settings) -> None:
    ids, weights = candidates(logits, chosen)
    order, p = ranked(logits, chosen)
    kept = order[: len(ids)]
    assert sorted(kept) == list(ids)  # the likeliest ones, given in order of id
    # top_p keeps as few as reach it; a sum that meets it to the last bits may go either way
    assert p[kept[:-1]].sum() < chosen.top_p + 1e-9
    assert len(kept) == len(order) or p[kept].sum() >= chosen.top_p - 1e-9
    assert weights.max() == pytest.approx(1.0)
    assert int(np.argmax(logits)) in ids


@settings(max_examples=100)
@given(rows, st.integers(0, 2**63 - 1))
def test_temperature_zero_takes_the_best_whatever_else_is_asked(logits: np.ndarray, seed: int) -> None:
    sampler = Sampler(Sampling(temperature=0, top_p=0.3, top_k=7, min_p=0.2, seed=seed))
    assert sampler.pick(logits) == int(np.argmax(logits))


@settings(max_examples=100)
@given(rows, options)
def test_only_a_candidate_is_ever_drawn(logits: np.ndarray, chosen: Settings) -> None:
    wish = Sampling(chosen.temperature, chosen.top_p, chosen.top_k, chosen.min_p, seed=3)
    ids, _ = candidates(logits, chosen)
    sampler = Sampler(wish)
    assert {sampler.pick(logits) for _ in range(20)} <= set(ids.tolist())


def test_the_nucleus_is_found_beyond_the_first_guess() -> None:
    logits = np.linspace(0, 0.1, 20_000, dtype=np.float32)  # nearly flat: half the mass needs thousands of tokens
    chosen = Settings(temperature=1.0, top_p=0.5, top_k=0, min_p=0.0, seed=0)
    ids, _ = candidates(logits, chosen)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum()
    assert p[ids].sum() >= 0.5 > p[ids[1:]].sum()
    assert ids[-1] == 19_999
    assert np.all(np.diff(ids) == 1)


def test_draws_follow_the_softmax() -> None:
    p = np.array([0.5, 0.3, 0.15, 0.05])
    sampler = Sampler(Sampling(temperature=1.0, seed=1))
    logits = np.log(p).astype(np.float32)
    counts = np.bincount([sampler.pick(logits) for _ in range(20_000)], minlength=4)
    chi_square = float((((counts - 20_000 * p) ** 2) / (20_000 * p)).sum())
    assert chi_square < 16.3  # 0.999 quantile for three degrees of freedom


def test_min_p_comes_before_top_p() -> None:
    logits = np.log(np.array([0.5, 0.2, 0.2, 0.1])).astype(np.float32)
    ids, _ = candidates(logits, Settings(temperature=1.0, top_p=0.95, top_k=0, min_p=0.3, seed=0))
    assert ids.tolist() == [0, 1, 2]  # top_p alone would have needed the last one


def test_a_masked_token_is_never_drawn() -> None:
    logits = np.zeros(100, np.float32)
    logits[np.arange(100) != 42] = -np.inf
    sampler = Sampler(Sampling(temperature=2.0, seed=0))
    assert {sampler.pick(logits) for _ in range(50)} == {42}


@pytest.mark.parametrize("temperature", [1e-300, 1e-9, 2.0])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    logits = np.array([80.0, -80.0, 79.0], np.float32)
    assert Sampler(Sampling(temperature=temperature, seed=0)).pick(logits) in (0, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_mean_nothing_are_reported(bad: float) -> None:
    logits = np.zeros(8, np.float32)
    logits[3] = bad
    with pytest.raises(EngineError, match="token 3"):
        Sampler(Sampling(temperature=1.0)).pick(logits)
    with pytest.raises(EngineError, match="no usable maximum"):
        Sampler(Sampling(temperature=0.0)).pick(np.full(8, -np.inf, np.float32))


def test_the_same_seed_draws_the_same_tokens() -> None:
    logits = np.random.default_rng(0).normal(size=(30, 500)).astype(np.float32)

    def tokens(seed: int | None) -> list[int]:
        sampler = Sampler(Sampling(temperature=1.0, seed=seed))
        return [sampler.pick(row) for row in logits]

    assert tokens(5) == tokens(5)
    assert tokens(5) != tokens(6)


def test_a_fresh_seed_can_be_used_again() -> None:
    logits = np.zeros(1000, np.float32)
    first = Sampler(Sampling(temperature=1.0))
    again = Sampler(Sampling(temperature=1.0, seed=first.settings.seed))
    assert [first.pick(logits) for _ in range(10)] == [again.pick(logits) for _ in range(10)]


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("temperature", -0.1, "temperature is -0.1; it must be a number, 0 to 2"),
        ("temperature", float("nan"), "temperature is nan"),
        ("top_p", 1.5, "top_p is 1.5; it must be a number, 0 to 1"),
        ("top_k", -1, "top_k is -1; it must be an integer, 0 to"),
        ("top_k", 2.5, "top_k is 2.5; it must be an integer"),
        ("min_p", True, "min_p is True; it must be a number"),
        ("seed", 2**63, "it must be an integer, 0 to 2\\^63-1"),
    ],
)
def test_an_option_out_of_range_is_named_with_its_range(option: str, value: float, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        Sampler(Sampling(**{option: value}))


def test_what_the_caller_leaves_open_comes_from_the_model_then_the_reference() -> None:
    chosen = settle(Sampling(top_k=40), Sampling(temperature=0.7, min_p=0.05))
    assert (chosen.temperature, chosen.top_p, chosen.top_k, chosen.min_p) == (0.7, 1.0, 40, 0.05)


def test_an_explicit_zero_is_honoured_over_a_default() -> None:
    assert settle(Sampling(temperature=0, min_p=0), Sampling(temperature=1.0, min_p=0.05)).min_p == 0


def test_defaults_follow_dialect_and_bits() -> None:
    assert sampling_defaults({}, "preview") == Sampling(1.0, 1.0, 0, 0.0)
    assert sampling_defaults({}, "0731", ["Q4_K"]).top_p == 0.95
    assert sampling_defaults({}, "preview", ["Q4_K", "IQ2_XXS"]).min_p == 0.05
    assert sampling_defaults({}, "preview", ["Q8_0"]).min_p == 0.0


def test_the_files_own_wish_wins() -> None:
    metadata = {"general.sampling.temp": 0.0, "general.sampling.top_k": 20, "general.sampling.min_p": 0.1}
    assert sampling_defaults(metadata, "0731", ["Q2_K"]) == Sampling(0.0, 0.95, 20, 0.1)


def test_bad_advice_in_a_file_is_refused() -> None:
    with pytest.raises(FileError, match=r"temperature is -1\.0"):
        sampling_defaults({"general.sampling.temp": -1.0}, "preview")


@pytest.mark.parametrize("wish", [{"top_p": 0.95}, {"min_p": 0.05, "top_p": 0.95}, {"top_k": 40, "top_p": 0.9}])
def test_a_full_vocabulary_is_not_sorted(wish: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(0).normal(scale=3, size=129_280).astype(np.float32)
    lengths: list[int] = []

    def counting(sort: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        return lambda rows, *args, **options: lengths.append(len(rows)) or sort(rows, *args, **options)

    monkeypatch.setattr(np, "argsort", counting(np.argsort))
    monkeypatch.setattr(np, "sort", counting(np.sort))
    Sampler(Sampling(temperature=1.0, seed=0, **wish)).pick(logits)  # type: ignore[arg-type]
    assert lengths
    assert max(lengths) < 20_000


def test_a_mask_leaves_only_what_it_allows() -> None:
    logits = np.array([5, 4, 3, 2], np.float32)
    mask = np.array([False, True, False, True])
    assert Sampler(Sampling(temperature=0)).pick(logits, mask) == 1
    sampler = Sampler(Sampling(temperature=2, seed=1))
    assert {sampler.pick(logits, mask) for _ in range(100)} == {1, 3}
    nucleus = Sampler(Sampling(temperature=1, top_p=0.5, seed=1))  # of what is allowed: token 1 has 88 % of it
    assert {nucleus.pick(logits, mask) for _ in range(100)} == {1}


def test_a_mask_that_allows_nothing_is_reported() -> None:
    with pytest.raises(EngineError, match="no token at all"):
        Sampler(Sampling()).pick(np.zeros(4, np.float32), np.zeros(4, np.bool_))


def test_what_is_wrong_under_a_mask_is_named_by_its_token() -> None:
    with pytest.raises(EngineError, match="token 3"):
        Sampler(Sampling()).pick(np.full(4, -np.inf, np.float32), np.array([False, False, False, True]))


def test_a_place_found_by_blocks_is_where_the_running_sum_is_above_the_part() -> None:
    weights = np.random.default_rng(1).random(1000).astype(np.float32)
    weights[[0, 3, 256, 511, 512, 999]] = 0
    mass = np.cumsum(weights, dtype=np.float64)
    for part in np.linspace(0, 1, 500, endpoint=False):
        assert place_of(weights, part) == np.searchsorted(mass, part * mass[-1], side="right")


@pytest.mark.parametrize("part", [0.0, 0.5, 1 - 2.0**-53, 1.0])
def test_what_weighs_nothing_has_no_place_whatever_the_rounding(part: float) -> None:
    weights = np.zeros(700, np.float32)
    weights[[5, 300]] = 0.1
    assert weights[place_of(weights, part)] > 0
