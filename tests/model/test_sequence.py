"""Pages and slots: who owns them, when they are shared, copied and given back."""

import random

import numpy as np
import pytest
from random_model import random_ids, random_model

from ds4_backend.errors import EngineError
from ds4_backend.model.sequence import Arena, Sequence, longest_run


def advanced(model, tokens, seed=0):
    sequence = model.new_sequence()
    model.forward([(sequence, random_ids(tokens, seed=seed))])
    return sequence


def test_a_conversation_takes_a_page_per_128_tokens_and_gives_everything_back():
    model = random_model()
    sequence = advanced(model, 300)
    assert (model.arena.pages_in_use, model.arena.slots_in_use) == (3, 1)
    sequence.release()
    sequence.release()
    assert (model.arena.pages_in_use, model.arena.slots_in_use) == (0, 0)
    assert sequence.released


def test_pages_and_slots_are_used_again_before_the_pools_grow():
    model = random_model()
    advanced(model, 300).release()
    held = model.state.nbytes
    advanced(model, 300).release()
    assert model.state.nbytes == held


def test_a_fork_shares_full_pages_and_copies_the_open_one():
    model = random_model()
    first = advanced(model, 300)
    twin = first.fork()
    assert model.arena.pages_in_use == 4
    first.release()
    assert model.arena.pages_in_use == 3
    twin.release()
    assert model.arena.pages_in_use == 0


def test_fork_and_original_go_their_own_ways():
    model = random_model()
    first = advanced(model, 240)
    twin = first.fork()
    count = 36  # past the end of the page at 256, and a window of 32
    left = [model.forward([(first, [t])])[0] for t in random_ids(count, seed=1)]
    right = [model.forward([(twin, [t])])[0] for t in random_ids(count, seed=2)]
    for seed, got in ((1, left), (2, right)):
        alone = advanced(model, 240)
        expected = [model.forward([(alone, [t])])[0] for t in random_ids(count, seed=seed)]
        np.testing.assert_array_equal(np.array(got), np.array(expected))


def test_a_released_conversation_refuses_to_go_on():
    model = random_model()
    sequence = advanced(model, 10)
    sequence.release()
    with pytest.raises(EngineError, match="released"):
        model.forward([(sequence, [1])])


def test_a_snapshot_loads_into_an_empty_conversation_only():
    model = random_model()
    sequence = advanced(model, 130)
    with pytest.raises(EngineError, match="130 tokens"):
        sequence.load(sequence.export())


@pytest.mark.parametrize("length", [1, 3, 4, 5, 31, 32, 33, 127, 128, 129, 256, 300])
def test_an_exported_state_continues_exactly_in_another_model(length):
    here, there = random_model(), random_model()
    blocker = advanced(there, 200, seed=5)  # so that pages and slots differ
    first = advanced(here, length)
    second = there.import_sequence(first.export())
    blocker.release()
    for count in (1, 1, 1, 1, 130, 1):  # every window closes once
        ids = random_ids(count, seed=count)
        np.testing.assert_array_equal(here.forward([(first, ids)]), there.forward([(second, ids)]))


def test_an_aligned_export_holds_no_open_windows():
    model = random_model()
    snapshot = advanced(model, 256).export()
    g = model.geometry
    assert snapshot.pages["csa"].shape == (2, 2, 32, g.attention_key_length)
    assert snapshot.pages["hca"].shape == (2, 2, 1, g.attention_key_length)
    assert snapshot.tail["window"].shape == (6, 32, g.attention_key_length)
    assert snapshot.tail["csa_lane"].shape == (2, 2, 4, 2 * g.attention_key_length)
    assert snapshot.tail["hca_lane"].shape[2] == 0
    assert "csa" not in snapshot.tail


class NoState:
    """Counts what it is asked to hold."""

    pages = 0

    def reserve(self, pages: int, slots: int) -> None:
        self.pages = pages


def test_conversations_that_come_and_go_never_hold_more_than_twice_what_they_need():
    chance, state, alive, most = random.Random(1), NoState(), [], 0
    arena = Arena(state)
    for _ in range(3000):
        if alive and chance.random() < 0.5:
            alive.pop(chance.randrange(len(alive))).release()
        else:
            alive.append(Sequence(arena))
            alive[-1].span(chance.randrange(1, 30) * 128)
        while len(alive) > 12:
            alive.pop(0).release()
        most = max(most, arena.pages_in_use)
    assert state.pages <= 2 * most + 1


def test_a_new_conversation_begins_where_most_pages_are_free_in_a_row():
    assert longest_run({3, 7, 8, 9, 12, 13}) == 7
    assert longest_run({5, 6, 1, 2}) == 1
