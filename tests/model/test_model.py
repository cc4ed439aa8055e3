"""The network as a whole: how tokens arrive and who else runs beside them changes nothing."""

import numpy as np
import pytest
from random_model import random_ids, random_model

from ds4_backend.errors import RequestError


def run(model, ids, chunks):
    """All logits [N, V], tokens given in these chunk sizes, the last one repeating."""
    sequence, out, at = model.new_sequence(), [], 0
    sizes = iter(chunks)
    size = next(sizes)
    while at < len(ids):
        out.append(model.forward([(sequence, ids[at : at + size])], every=True))
        at, size = at + size, next(sizes, size)
    sequence.release()
    return np.concatenate(out)


IDS = random_ids(300)


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def single_shot(model):
    return run(model, IDS, [300])


@pytest.mark.parametrize("chunks", [[1], [128], [2, 3, 1, 7, 64, 5, 129, 33]])
def test_any_chunking_gives_the_logits_of_a_single_shot(model, single_shot, chunks):
    got = run(model, IDS, chunks)
    np.testing.assert_allclose(got, single_shot, atol=1e-4)
    np.testing.assert_array_equal(got.argmax(1), single_shot.argmax(1))


def test_conversations_in_one_batch_get_what_they_get_alone(model, single_shot):
    others = [random_ids(200, seed=s) for s in (1, 2)]
    alone = [run(model, ids, [200]) for ids in others]
    a, b, c = (model.new_sequence() for _ in range(3))
    model.forward([(a, IDS[:150]), (b, others[0][:50]), (c, others[1][:1])])
    model.forward([(c, others[1][1:130]), (a, IDS[150:151]), (b, others[0][50:51])])
    got = model.forward([(b, others[0][51:200]), (a, IDS[151:300]), (c, others[1][130:200])])
    np.testing.assert_allclose(got, [alone[0][-1], single_shot[-1], alone[1][-1]], atol=1e-4)


def test_only_last_logits_are_the_last_of_all_logits(model, single_shot):
    sequence = model.new_sequence()
    np.testing.assert_allclose(model.forward([(sequence, IDS)])[0], single_shot[-1], atol=1e-5)


@pytest.mark.parametrize("simulated", [False, True])
@pytest.mark.parametrize("boundary", [128, 256])
def test_a_resume_at_a_page_boundary_continues_exactly(boundary, simulated):
    model, other = (random_model(seed=4, cache_simulation=simulated) for _ in range(2))
    sequence = model.new_sequence()
    for at in range(0, boundary, 128):
        model.forward([(sequence, IDS[at : at + 128])])
    resumed = other.import_sequence(sequence.export())
    for at in range(boundary, 300, 128):
        part = IDS[at : at + 128]
        np.testing.assert_array_equal(
            model.forward([(sequence, part)], every=True), other.forward([(resumed, part)], every=True)
        )


def test_the_simulation_changes_the_numbers_and_keeps_chunking_out_of_them():
    plain, simulated = random_model(), random_model(cache_simulation=True)
    assert np.abs(run(plain, IDS, [128]) - run(simulated, IDS, [128])).max() > 0.1
    shot, pages = run(simulated, IDS, [300]), run(simulated, IDS, [128])
    assert (shot.argmax(1) == pages.argmax(1)).mean() > 0.97  # a rounding flip here and there


def test_bad_tokens_are_refused_with_the_range(model):
    with pytest.raises(RequestError, match=r"token id 160 is outside the vocabulary of 160"):
        model.forward([(model.new_sequence(), [3, 160])])
    with pytest.raises(RequestError, match="at least one token"):
        model.forward([(model.new_sequence(), [])])
