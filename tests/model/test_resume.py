"""Resume at every 128-token boundary of a 2,300-token prompt: bit for bit as if never stopped."""

from importlib.resources import files

import numpy as np
import pytest
from random_model import random_ids, random_model

from ds4_backend.model import Model, Snapshot, load_model

pytestmark = pytest.mark.slow
TOKENS = 2300


def tiny() -> Model:
    return load_model(str(files("ds4_backend") / "assets" / "ds4-tiny.gguf"))


def simulated() -> Model:
    return random_model(seed=3, cache_simulation=True)


def same(a: Snapshot, b: Snapshot) -> bool:
    """Equal to the last bit, so that whatever follows is equal too."""
    pairs = [(a.pages[k], b.pages[k]) for k in a.pages] + [(a.tail[k], b.tail[k]) for k in a.tail]
    return a.length == b.length and all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("make", [tiny, simulated])
def test_a_state_exported_at_any_boundary_continues_exactly(make):
    model, other = make(), make()
    ids = random_ids(TOKENS, model.geometry, seed=11)
    sequence = model.new_sequence()
    for at in range(0, TOKENS, 128):
        resumed = other.import_sequence(sequence.export())
        page = ids[at : at + 128]
        expected = model.forward([(sequence, page)], every=True)
        np.testing.assert_array_equal(other.forward([(resumed, page)], every=True), expected)
        assert same(resumed.export(), sequence.export())
        resumed.release()
