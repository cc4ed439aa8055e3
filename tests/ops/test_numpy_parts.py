"""Each part of the numpy ops against its formula, written plainly for one token at a time."""

import numpy as np
import pytest
from random_model import geometry

from ds4_backend.ops.base import Experts, HyperConnection, Router, Span
from ds4_backend.ops.numpy import attention, compress, hyper, indexer
from ds4_backend.ops.numpy.arithmetic import rms_norm, sigmoid
from ds4_backend.ops.numpy.experts import mixture, pack, route, swiglu
from ds4_backend.ops.numpy.step import Segment
from ds4_backend.ops.numpy.store import BLOCK, Store

RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_rms_norm_divides_by_the_root_mean_square():
    x, w = normal(5, 24), normal(24)
    expected = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6) * w
    np.testing.assert_allclose(rms_norm(x, w, 1e-6), expected, rtol=1e-5)


def test_sigmoid_neither_overflows_nor_warns():
    with np.errstate(all="raise", under="ignore"):
        got = sigmoid(np.array([-1000, -88, 0, 1000], np.float32))
    np.testing.assert_allclose(got, [0, 0, 0.5, 1], atol=1e-30)


def plain_sinkhorn(logits, iterations, epsilon):
    """Twenty alternations of dividing by sums, the first row step being a softmax."""
    c = np.exp(logits - logits.max(1, keepdims=True))
    c = c / c.sum(1, keepdims=True) + epsilon
    c = c / (c.sum(0, keepdims=True) + epsilon)
    for _ in range(iterations - 1):
        c = c / (c.sum(1, keepdims=True) + epsilon)
        c = c / (c.sum(0, keepdims=True) + epsilon)
    return c


def test_sinkhorn_divides_rows_and_columns_in_turn():
    logits = 3 * normal(6, 4, 4)
    got = hyper.sinkhorn(logits, 20, np.float32(1e-6))
    for one, result in zip(logits.astype(np.float64), got, strict=True):
        expected = plain_sinkhorn(one, 20, 1e-6)
        np.testing.assert_allclose(result, expected, rtol=2e-5)
        np.testing.assert_allclose(hyper.sinkhorn_of_one(one.flatten().tolist(), 20, 1e-6), expected.flat, rtol=1e-12)


@pytest.mark.parametrize("tokens", [1, 3, 6])
def test_hyper_connections_collapse_by_gates_and_spread_over_the_row_index(tokens):
    g = geometry()
    scale = hyper.expand_scale(np.array([0.5, 0.7, 0.9], np.float32), 4)
    hc = HyperConnection(normal(24, 4 * 64) / 16, scale, normal(24) / 2)
    streams, y = normal(tokens, 4, 64), normal(tokens, 64)
    inputs, mix = hyper.gates(streams, hc, g)
    outputs, mixing = mix[:, :, 4], mix[:, :, :4].swapaxes(1, 2)
    new = hyper.spread(streams, y, mix)
    for t in range(tokens):
        m = hc.fn @ (streams[t].reshape(-1) / np.sqrt((streams[t] ** 2).mean() + 1e-6))
        np.testing.assert_allclose(inputs[t], 1 / (1 + np.exp(-(m[:4] * 0.5 + hc.base[:4]))) + 1e-6, rtol=1e-4)
        np.testing.assert_allclose(outputs[t], 2 / (1 + np.exp(-(m[4:8] * 0.7 + hc.base[4:8]))), rtol=1e-4)
        np.testing.assert_allclose(
            mixing[t], plain_sinkhorn((m[8:] * 0.9 + hc.base[8:]).reshape(4, 4), 20, 1e-6), rtol=1e-3
        )
        for k in range(4):
            expected = outputs[t, k] * y[t] + sum(mixing[t, j, k] * streams[t, j] for j in range(4))
            np.testing.assert_allclose(new[t, k], expected, rtol=1e-4, atol=1e-5)


def test_gates_far_from_zero_neither_overflow_nor_warn():
    hc = HyperConnection(normal(24, 4 * 64), np.full(24, 1e4, np.float32), normal(24))
    with np.errstate(all="raise", under="ignore"):
        inputs, mix = hyper.gates(normal(1, 4, 64), hc, geometry())
    assert np.isfinite(mix).all() and (inputs >= 0).all()


def test_indexer_scores_weigh_positive_dot_products_only():
    q, w, rows = normal(3, 5, 8), normal(3, 5), normal(11, 8)
    expected = np.array([[sum(w[t, h] * max(0, q[t, h] @ r) for h in range(5)) for r in rows] for t in range(3)])
    np.testing.assert_allclose(indexer.scores(q, w, rows), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 40])
def test_top_k_takes_the_largest_visible_and_the_lower_index_of_a_tie(tokens):
    values = RNG.integers(0, 6, (tokens, 30)).astype(np.float32)  # many ties
    visible = np.sort(RNG.integers(7, 31, tokens)).astype(np.int32)
    got = indexer.top_k(values, visible, 7)
    for row, count, chosen in zip(values, visible, got, strict=True):
        best = sorted(range(count), key=lambda i: (-row[i], i))[:7]
        assert chosen.tolist() == sorted(best)


@pytest.mark.parametrize("levels", [6, 10**6])  # many ties, and none
def test_top_k_of_one_token_that_sees_every_row(levels):
    values = RNG.integers(0, levels, (1, 30)).astype(np.float32)
    got = indexer.top_k(values, np.array([30], np.int32), 7)
    assert got[0].tolist() == sorted(sorted(range(30), key=lambda i: (-values[0, i], i))[:7])


def test_top_k_with_fewer_visible_rows_keeps_all_of_them():
    got = indexer.top_k(normal(2, 9), np.array([2, 9], np.int32), 4)
    assert got[0].tolist()[:2] == [0, 1]
    assert len(set(got[1].tolist())) == 4


def plain_attention(q, rows, sinks):
    """One token: softmax over rows and one sink per head, which has no value."""
    scores = q @ rows.T * q.shape[1] ** -0.5
    weights = np.exp(scores) / (np.exp(scores).sum(1) + np.exp(sinks))[:, None]
    return weights @ rows


@pytest.mark.parametrize("before", [0, 5, 31])
@pytest.mark.parametrize("chosen", [False, True])
def test_prefill_attention_equals_token_by_token_attention(before, chosen):
    count, size = 150, 32  # more than one tile of queries
    q, window, rows, sinks = normal(count, 3, 16), normal(before + count, 16), normal(60, 16), normal(3)
    visible = np.minimum((np.arange(count) + 20) // 4, 60).astype(np.int32)
    pick = np.sort(np.argsort(RNG.random((count, 60)), axis=1)[:, :10], axis=1) if chosen else None
    got = attention.prefill(q, window, before, size, attention.Compressed(rows, visible, pick), sinks)
    for t in (0, 1, 31, 127, 128, 149):
        own = window[max(0, before + t - size + 1) : before + t + 1]
        seen = [r for r in (range(60) if pick is None else pick[t]) if r < visible[t]]
        np.testing.assert_allclose(got[t], plain_attention(q[t], np.concatenate([own, rows[seen]]), sinks), atol=1e-5)


def test_decode_attention_is_one_softmax_over_both_kinds_of_rows():
    q, window, rows, sinks = normal(3, 16), normal(20, 16), normal(9, 16), normal(3)
    visible = np.array([6], np.int32)
    got = attention.decode(q, window, attention.Compressed(rows, visible), sinks)
    np.testing.assert_allclose(got, plain_attention(q, np.concatenate([window, rows[:6]]), sinks), rtol=1e-4)
    pick = attention.Compressed(rows, visible, np.array([[1, 4]]))
    np.testing.assert_allclose(
        attention.decode(q, window, pick, sinks),
        plain_attention(q, np.concatenate([window, rows[[1, 4]]]), sinks),
        rtol=1e-4,
    )


def plain_windows(pairs, ratio):
    """Pooled rows of a whole conversation: softmax per channel over a window (CSA: and over the one before)."""
    values, gates = pairs
    width = values.shape[1] // (2 if ratio == 4 else 1)
    rows = []
    for j in range(len(values) // ratio):
        own = slice(j * ratio, (j + 1) * ratio)
        v, z = [values[own, -width:]], [gates[own, -width:]]
        if ratio == 4 and j:
            earlier = slice((j - 1) * ratio, j * ratio)
            v, z = [values[earlier, :width], *v], [gates[earlier, :width], *z]
        v, z = np.concatenate(v), np.concatenate(z)
        weights = np.exp(z) / np.exp(z).sum(0)
        rows.append((weights * v).sum(0))
    return np.array(rows)


@pytest.mark.parametrize(("ratio", "lanes", "ring"), [(4, 2, 8), (128, 1, 128)])
@pytest.mark.parametrize("chunks", [[300], [1] * 300, [3, 1, 4, 5, 120, 128, 39]])
def test_compressed_rows_do_not_depend_on_how_tokens_arrive(ratio, lanes, ring, chunks):
    pairs = normal(2, 300, lanes * 6)
    state, rows, at = np.zeros((2, ring, lanes * 6), np.float32), [], 0
    for count in chunks:
        segment = Segment(Span(0, (), at, count), 0)
        if count == 1:
            bias = normal(lanes * 6)
            closed = compress.window_of_one(pairs[0, at], pairs[1, at] - bias, bias, state, at, ratio)
        else:
            closed = compress.closed_windows(pairs[:, at : at + count], state, segment, ratio)
        rows += [] if closed is None else list(closed)
        at += count
    np.testing.assert_allclose(np.array(rows), plain_windows(pairs, ratio), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 4])
def test_the_router_bias_moves_the_choice_but_not_the_weights(tokens):
    x, gate = normal(tokens, 8), normal(6, 8)
    bias = np.array([0, 0, 0, 0, 9, 0], np.float32)
    chosen, weights = route(x, Router(gate, bias, None), np.zeros(tokens, np.int32), 2, 1.5)
    p = np.sqrt(np.log1p(np.exp(x @ gate.T)))
    assert (chosen[:, 0] == 4).all()
    assert (chosen[:, 1] == np.where(np.arange(6) == 4, 0, p).argmax(1)).all()
    for t in range(tokens):
        np.testing.assert_allclose(weights[t], 1.5 * p[t, chosen[t]] / p[t, chosen[t]].sum(), rtol=1e-4)


def test_equal_scores_choose_the_lower_experts_alone_or_among_others():
    x, router = np.ones((2, 8), np.float32), Router(np.ones((6, 8), np.float32), np.zeros(6, np.float32), None)
    for tokens in (1, 2):
        chosen, weights = route(x[:tokens], router, np.zeros(tokens, np.int32), 2, 1.5)
        assert chosen.tolist() == [[0, 1]] * tokens
        np.testing.assert_allclose(weights, 0.75, rtol=1e-6)


@pytest.mark.parametrize("score", [-1e4, np.nan])
def test_scores_of_damaged_weights_route_to_nonsense_and_no_error(score):
    router = Router(np.full((6, 8), score, np.float32), np.zeros(6, np.float32), None)
    chosen, weights = route(np.ones((1, 8), np.float32), router, np.zeros(1, np.int32), 2, 1.5)
    assert chosen.shape == (1, 2) and np.isnan(weights).all()


def test_a_hash_routed_layer_chooses_by_token_id():
    table = np.array([[0, 1], [4, 2], [5, 3]], np.int32)
    chosen, weights = route(normal(3, 8), Router(normal(6, 8), None, table), np.array([2, 0, 1], np.int32), 2, 1.5)
    assert chosen.tolist() == [[5, 3], [0, 1], [4, 2]]
    np.testing.assert_allclose(weights.sum(1), 1.5, rtol=1e-5)
    alone, _ = route(normal(1, 8), Router(normal(6, 8), None, table), np.array([1], np.int32), 2, 1.5)
    assert alone.tolist() == [[4, 2]]


def test_swiglu_clamps_the_gate_from_above_only():
    gate_up = np.array([[-50, 50, -200, -50, 50, 1]], np.float32)
    with np.errstate(all="raise", under="ignore"):
        got = swiglu(gate_up, 10.0)
    np.testing.assert_allclose(got[0], [0, 100, 0], rtol=1e-3, atol=1e-6)


def small_experts():
    return Experts(
        0, normal(6, 12, 8), normal(6, 12, 8), normal(6, 8, 12), normal(12, 8), normal(12, 8), normal(8, 12), 2.0
    )


def silu_up(gate, up, clamp):
    gate = np.minimum(gate, clamp)
    return gate / (1 + np.exp(-gate)) * np.clip(up, -clamp, clamp)


@pytest.mark.parametrize("tokens", [1, 9])
def test_the_mixture_is_the_weighted_sum_of_its_experts_and_the_shared_one(tokens):
    x, e = normal(tokens, 8), small_experts()
    chosen, weights = np.array([[1, 4]] * tokens), np.abs(normal(tokens, 2))
    chosen[0] = [3, 3]  # a checkpoint whose hash table was left at its default repeats an expert
    got = mixture(x, chosen, weights, pack(e, Store()))
    for t in range(tokens):
        y = e.shared_down @ silu_up(e.shared_gate @ x[t], e.shared_up @ x[t], 2.0)
        for expert, weight in zip(chosen[t], weights[t], strict=True):
            y = y + weight * (e.down[expert] @ silu_up(e.gate[expert] @ x[t], e.up[expert] @ x[t], 2.0))
        np.testing.assert_allclose(got[t], y, rtol=1e-3, atol=1e-4)


def test_an_observer_sees_every_pair_with_what_entered_the_expert():
    x, e, seen = normal(5, 8), small_experts(), []
    chosen, weights = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [4, 0]]), np.abs(normal(5, 2))
    mixture(x, chosen, weights, pack(e, Store()), lambda what, experts, rows: seen.append((what, experts, rows)))
    inputs = [(w, i, r) for w, ids, rows in seen for i, r in zip(ids, rows, strict=True)]
    assert sorted(i for w, i, _ in inputs if w == "gate_up") == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    expert, row = next((i, r) for w, i, r in inputs if w == "down" and i == 1)
    t, k = 0, 1
    np.testing.assert_allclose(row, weights[t, k] * silu_up(e.gate[expert] @ x[t], e.up[expert] @ x[t], 2.0), rtol=1e-4)


def test_weights_in_a_store_keep_their_values_side_by_side():
    store, weights = Store(), [normal(5, 7), normal(2, 3, 4), normal(9, 2)]
    placed = [store.by_columns(weight) for weight in weights]
    for weight, got in zip(weights, placed, strict=True):
        np.testing.assert_array_equal(got, weight)
        assert got.swapaxes(-1, -2).flags.c_contiguous
    assert placed[0].base is placed[1].base  # one block
    large = store.empty(BLOCK // 2 + 1)
    assert large.base is None
