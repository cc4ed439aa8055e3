"""Each MLX op against the numpy op of the same name, on the same inputs."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_pair import Pair, assert_close, layer
from random_model import geometry

from ds4_backend.errors import FileError
from ds4_backend.ops.mlx import MlxOps
from ds4_backend.ops.mlx.arithmetic import largest

TOKENS = [1, 3, 7]
ODD = geometry(
    block_count=3,
    embedding_length=37,
    attention_head_count=6,
    attention_key_length=11,
    attention_q_lora_rank=13,
    attention_output_lora_rank=5,
    attention_output_group_count=3,
    attention_compress_ratios=(0, 4, 128),
    attention_indexer_head_count=5,
    attention_indexer_key_length=9,
    attention_indexer_top_k=7,
    rope_dimension_count=6,
    expert_count=7,
    expert_used_count=3,
    expert_feed_forward_length=19,
    hash_layer_count=1,
    hyper_connection_count=3,
    swiglu_clamp_exp=(2.0,) * 3,
)
"""No width is a power of two, so that no axis can be taken for another."""


@pytest.fixture(scope="module")
def pair():
    return Pair(ODD)


@pytest.mark.parametrize("count", TOKENS)
def test_embedding_repeats_the_token_in_every_stream(pair, count):
    pair.begin([count])
    assert_close(pair.both(lambda s: s.ops.embed(s.weights.embedding, s.step)), 0)


@pytest.mark.parametrize("count", TOKENS)
def test_hyper_connections(pair, count):
    streams, y = pair.normal(count, 3, 37), pair.normal(count, 37)

    def there_and_back(side):
        w = layer(side, 1)
        x, mix = side.ops.hc_pre(side.array(streams), w.ffn_hc, w.ffn_norm)
        return side.ops.to_host(x), side.ops.to_host(side.ops.hc_post(side.array(streams), side.array(y), mix))

    expected, got = pair.both(there_and_back)
    assert_close((expected[0], got[0]))
    assert_close((expected[1], got[1]))


@pytest.mark.parametrize("count", TOKENS)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_projections_queries_and_window_rows(pair, count, index):
    pair.begin([count])
    x = pair.normal(count, 37)

    def rows(side):
        w = layer(side, index).attention
        low, kv, *lanes = side.ops.project(side.array(x), w.inputs)
        low, q = side.ops.queries(low, w.q_a_norm, w.q_b, w.ratio, side.step)
        return low, q, side.ops.window_rows(kv, w.kv_norm, w.ratio, side.step), *lanes

    expected, got = pair.both(rows)
    assert len(expected) == len(got) == 3 + {0: 0, 1: 5, 2: 2}[index]
    for one in zip(expected, got, strict=True):
        assert_close(one)


def test_rotation_is_the_same_a_million_tokens_in(pair):
    pair.begin([1])
    kv = pair.normal(1, 11)
    for side in pair.sides:
        side.step.positions = np.array([1_048_575], np.int32)
    assert_close(pair.both(lambda s: s.ops.window_rows(s.array(kv), layer(s, 1).attention.kv_norm, 4, s.step)), 1e-6)


@pytest.mark.parametrize("count", TOKENS)
def test_grouped_output(pair, count):
    heads = pair.normal(count, 6, 11)

    def out(side):
        w = layer(side, 0).attention
        return side.ops.grouped_output(side.array(heads), w.output_a, w.output_b)

    assert_close(pair.both(out))


@pytest.mark.parametrize("count", TOKENS)
@pytest.mark.parametrize("index", [0, 2])
def test_routing_and_experts(pair, count, index):
    pair.begin([count])
    x = pair.normal(count, 37)

    def routed(side):
        w = layer(side, index)
        chosen, weights = side.ops.route(side.array(x), w.router, side.step)
        y = side.ops.experts(side.array(x), chosen, weights, w.experts)
        dense = np.zeros((count, 7), np.float32)
        np.put_along_axis(dense, np.array(chosen), np.array(weights), 1)  # the order of the chosen is free
        return dense, y

    (expected, expected_y), (got, got_y) = pair.both(routed)
    assert ((expected > 0).sum(1) == 3).all()
    assert_close((expected, got))
    assert_close((expected_y, got_y))


def test_a_token_whose_table_repeats_an_expert_counts_it_twice(pair):
    x, w = pair.normal(2, 37), pair.normal(2, 3)
    chosen = np.array([[4, 4, 1], [0, 6, 0]], np.int32)
    assert_close(pair.both(lambda s: s.ops.experts(s.array(x), s.array(chosen), s.array(w), layer(s, 1).experts)))


def test_the_head_of_some_tokens(pair):
    streams = pair.normal(9, 3, 37)
    wanted = np.array([8, 0, 3], np.int32)
    assert_close(pair.both(lambda s: s.ops.head(s.array(streams), wanted, s.weights.head)))


def feed(side, index, x):
    """One attention sub-layer up to the heads, and the indexer's choice."""
    w = layer(side, index).attention
    low, kv, *lanes = side.ops.project(side.array(x), w.inputs)
    low, q = side.ops.queries(low, w.q_a_norm, w.q_b, w.ratio, side.step)
    rows = side.ops.window_rows(kv, w.kv_norm, w.ratio, side.step)
    for i, (kind, compressor) in enumerate(w.compressors):
        side.ops.compress(lanes[2 * i], lanes[2 * i + 1], compressor, w.ratio, w.ordinal, kind, side.step)
    chosen = side.ops.select(low, w.indexer_q_b, lanes[-1], w.ordinal, side.step) if w.ratio == 4 else None
    return side.ops.attend(q, rows, w.sinks, index, w.ordinal, chosen, side.step), chosen


def assert_same_choice(expected, got, lengths):
    """The same rows among the visible ones, token by token."""
    assert [c is None for c in expected] == [c is None for c in got]
    for one, other, (start, count) in zip(expected, got, lengths, strict=True):
        for t in range(count if one is not None else 0):
            visible = (start + t + 1) // 4
            assert [i for i in one[t] if i < visible] == [i for i in np.array(other)[t] if i < visible]


RAGGED = [
    [[1], [1], [1], [1], [1]],
    [[3], [1], [1], [123], [1], [1], [30]],
    [[4], [123], [1], [1]],
    [[5], [122], [2]],
    [[127], [1], [129]],
    [[260], [1]],
    [[2, 0, 130], [1, 3, 1], [0, 126, 1], [125, 1, 0], [1, 129, 1]],
]
"""Steps of one to three conversations that meet every boundary: windows of 4 and 128, pages, ring ends, top-k."""


def named(steps):
    return "+".join("/".join(map(str, s)) for s in steps)


@pytest.mark.parametrize("steps", RAGGED, ids=named)
def test_attention_over_ragged_steps(steps):
    compare_attention(steps, simulated=False, tolerance=3e-5)


@pytest.mark.parametrize("steps", [RAGGED[1], RAGGED[-1]], ids=named)
def test_attention_over_ragged_steps_with_the_cache_simulation(steps):
    compare_attention(steps, simulated=True, tolerance=2e-3)


def compare_attention(steps, *, simulated, tolerance):
    """Every attention sub-layer of a three-layer network, fed the same random inputs on both sides."""
    g = geometry(
        block_count=3,
        attention_compress_ratios=(0, 4, 128),
        attention_sliding_window=20,
        attention_head_count=2,
        swiglu_clamp_exp=(2.0,) * 3,
    )
    pair = Pair(g, simulated=simulated, slots=len(steps[0]), seed=11)
    for counts in steps:
        starts = [(start, count) for start, count in zip(pair.lengths, counts, strict=True) if count]
        total = pair.begin(counts)
        for index in range(3):
            x = pair.normal(total, 64)
            (expected, chosen), (got, other) = pair.both(lambda s, i=index, x=x: feed(s, i, x))
            assert_close((expected, got), tolerance)
            if chosen is not None:
                assert_same_choice(chosen, other, starts)


def test_the_largest_are_taken_lowest_index_first_of_a_tie():
    values = np.random.default_rng(2).integers(0, 5, (20, 33)).astype(np.float32)
    values[:, 25:] = -np.inf
    for k in (1, 6, 33):
        got = np.array(largest(mx.array(values), k))
        for row, chosen in zip(values, got, strict=True):
            assert chosen.tolist() == sorted(sorted(range(33), key=lambda i, r=row: (-r[i], i))[:k])


def test_widths_that_the_simulation_cannot_cut_into_blocks_are_refused():
    with pytest.raises(FileError, match="no-cache-simulation"):
        MlxOps(ODD, cache_simulation=True)
