"""Pools and tails of the MLX ops: what is exported is what the numpy ops export, and either takes over the other's."""

import mlx.core as mx
import numpy as np
import pytest
from random_model import geometry, random_ids, random_model

from ds4_backend.ops.mlx import state as module
from ds4_backend.ops.mlx.state import MlxState, Pool

G = geometry(
    block_count=3,
    attention_compress_ratios=(0, 4, 128),
    attention_head_count=2,
    expert_count=2,
    expert_used_count=1,
    hash_layer_count=1,
    hyper_connection_sinkhorn_iterations=2,
    swiglu_clamp_exp=(2.0,) * 3,
)
IDS = random_ids(270, G, seed=9)


@pytest.fixture(scope="module")
def models():
    """The same network on both, `(source, target)` by name."""
    return {name: random_model(G, seed=3, ops=name) for name in ("numpy", "mlx")}


def run(model, ids, sequence=None):
    sequence = sequence or model.new_sequence()
    return sequence, model.forward([(sequence, ids)]) if ids else None


def test_both_export_the_same_named_arrays(models):
    sequences = [model.new_sequence() for model in models.values()]
    done = 0
    for length in (1, 3, 4, 5, 127, 128, 129, 260):
        for model, sequence in zip(models.values(), sequences, strict=True):
            run(model, IDS[done:length], sequence)
        done = length
        assert_same_snapshot(*(sequence.export() for sequence in sequences))


def assert_same_snapshot(expected, got):
    assert got.length == expected.length
    for part in ("pages", "tail"):
        one, other = getattr(expected, part), getattr(got, part)
        assert one.keys() == other.keys()
        for name in one:
            assert other[name].dtype == np.float32
            np.testing.assert_allclose(other[name], one[name], atol=2e-5, err_msg=name)


@pytest.mark.parametrize("length", [2, 128, 131])
@pytest.mark.parametrize(("source", "target"), [("numpy", "mlx"), ("mlx", "numpy"), ("mlx", "mlx")])
def test_a_conversation_moves_from_one_to_the_other(models, source, target, length):
    sequence, _ = run(models[source], IDS[:length])
    moved = models[target].import_sequence(sequence.export())
    _, expected = run(models[source], IDS[length : length + 9], sequence)
    _, got = run(models[target], IDS[length : length + 9], moved)
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("length", [5, 128, 137])
def test_a_fork_and_its_source_go_separate_ways(models, length):
    model = models["mlx"]
    sequence, _ = run(model, IDS[:length])
    twin = sequence.fork()
    _, one = run(model, IDS[200:203], twin)
    _, other = run(model, IDS[210:219], sequence)
    _, straight = run(model, IDS[:length] + IDS[200:203])
    _, straight_other = run(model, IDS[:length] + IDS[210:219])
    np.testing.assert_allclose(one, straight, atol=1e-4)
    np.testing.assert_allclose(other, straight_other, atol=1e-4)


def test_a_slot_taken_again_remembers_nothing(models):
    model = models["mlx"]
    sequence, _ = run(model, IDS[:150])
    sequence.release()
    _, again = run(model, IDS[:7])
    _, fresh = run(random_model(G, seed=3, ops="mlx"), IDS[:7])
    np.testing.assert_array_equal(again, fresh)


def test_reserving_more_keeps_what_is_there(models):
    model = random_model(G, seed=3, ops="mlx")
    sequence, _ = run(model, IDS[:140])
    before = sequence.export()
    model.state.reserve(500, 9)
    after = sequence.export()
    for name in before.pages:
        np.testing.assert_array_equal(before.pages[name], after.pages[name])
    for name in before.tail:
        np.testing.assert_array_equal(before.tail[name], after.tail[name])


def test_bytes_are_those_of_whole_shards_and_of_the_tails():
    state = MlxState(G)
    assert state.nbytes == 0
    state.reserve(1, 2)
    shard = module.SHARD_PAGES * (32 * 80 + 32 * 32 + 80) * 4
    assert state.nbytes == shard
    state.reserve(module.SHARD_PAGES + 1, 2)
    assert state.nbytes == 2 * shard


PAGES = [3, 4, 5, 70, 71, 2, 64, 63, 140]


@pytest.mark.parametrize("page_rows", [1, 4])
def test_rows_come_back_from_pages_in_any_order_and_shard(page_rows):
    pool, rng = Pool(page_rows, 3), np.random.default_rng(0)
    pool.reserve(141)
    expected = np.zeros((len(PAGES) * page_rows, 3), np.float32)
    at = 0
    while at < len(expected):
        count = min(int(rng.integers(1, 6)), len(expected) - at)
        expected[at : at + count] = rng.standard_normal((count, 3))
        pool.write(PAGES, at, mx.array(expected[at : at + count]))
        at += count
        np.testing.assert_array_equal(np.array(pool.read(PAGES, at)), expected[:at])
    assert sum(np.any(np.array(shard)) for shard in pool.shards) == 3


def test_a_read_of_neighbouring_pages_is_one_run():
    pool = Pool(4, 2)
    assert list(pool._runs([8, 9, 10], 0, 11)) == [(0, 32, 11)]
    assert list(pool._runs([63, 64], 2, 5)) == [(0, 254, 2), (1, 0, 3)]
    assert list(pool._runs([], 0, 0)) == []


def test_writing_a_row_touches_one_shard_only():
    pool = Pool(4, 2)
    pool.reserve(200)
    before = list(pool.shards)
    assert len(pool.write([130], 1, mx.ones((1, 2)))) == 1
    assert [i for i, (a, b) in enumerate(zip(before, pool.shards, strict=True)) if np.any(np.array(b))] == [2]
    assert len(before) == 4
