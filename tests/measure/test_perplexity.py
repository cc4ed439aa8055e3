"""Perplexity: each token is scored once, after all of its window, whatever the chunks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from random_model import SMALL, random_ids, random_model

from ds4_backend.measure.perplexity import perplexity
from ds4_backend.measure.vectors import log_softmax


@pytest.fixture(scope="module")
def model():
    return random_model()


def test_it_is_the_mean_over_the_logits_of_one_pass(model):
    ids = random_ids(140)
    sequence = model.new_sequence()
    logprobs = log_softmax(model.forward([(sequence, [0, *ids[:-1]])], every=True))
    sequence.release()
    found = perplexity(model, ids, bos=0, context=1000)  # in chunks of 128
    assert found.tokens == 140
    assert found.nll == pytest.approx(-logprobs[np.arange(140), ids].mean(), abs=1e-4)
    assert found.perplexity == pytest.approx(math.exp(found.nll))


def test_windows_begin_afresh_and_score_every_token_once(model):
    ids, seen = random_ids(20), []
    found = perplexity(model, ids, bos=0, context=9, report=lambda *at: seen.append(at))
    parts = [perplexity(model, ids[at : at + 8], bos=0, context=9) for at in (0, 8, 16)]
    assert found.tokens == 20 == sum(part.tokens for part in parts)
    assert found.nll * 20 == pytest.approx(sum(part.nll * part.tokens for part in parts), rel=1e-6)
    assert seen == [(8, 20), (16, 20), (20, 20)]


def test_log_probabilities_sum_to_one():
    assert np.exp(log_softmax(np.array([[1000.0, 999.0, -1000.0]], np.float32))).sum() == pytest.approx(1.0)
    assert SMALL.vocab_size == len(log_softmax(np.zeros(SMALL.vocab_size, np.float32)))
