"""Live comparison with transformers' DeepseekV4, from its own saved folder through our converter. Needs torch."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from random_model import SMALL, random_ids, random_values
from transformers_model import logits_of, transformers_model

from ds4_backend.convert import convert
from ds4_backend.model import load_model

# Not imported here: that takes seconds, in a run of the fast tests too.
pytestmark = [
    pytest.mark.slow,
    *(pytest.mark.skipif(find_spec(name) is None, reason=f"needs {name}") for name in ("torch", "transformers")),
]
CHUNKINGS = {"prefill": [320], "ragged": [1, 7, 64, 5, 129, 3, 33], "token by token": [1]}


def random_geometry(seed):
    """Another network of the same kinds each time; 16 or more indexer heads, so that ReLU scores hardly tie at 0."""
    rng = np.random.default_rng(seed)
    layers = int(rng.integers(5, 8))
    rotary, groups = int(rng.choice([8, 16, 32])), int(rng.choice([1, 2, 4]))
    return replace(
        SMALL,
        block_count=layers,
        embedding_length=int(rng.choice([48, 64, 96])),
        attention_head_count=groups * int(rng.integers(1, 4)),
        attention_output_group_count=groups,
        attention_key_length=rotary + int(rng.choice([24, 32, 64])),
        rope_dimension_count=rotary,
        attention_sliding_window=int(rng.choice([16, 32, 128])),
        attention_indexer_head_count=int(rng.integers(16, 24)),
        attention_indexer_key_length=int(rng.choice([32, 40, 64])),
        attention_indexer_top_k=int(rng.integers(4, 20)),
        attention_compress_ratios=(0, 4, 128, *rng.choice([0, 4, 128], layers - 3).tolist()),
        expert_count=int(rng.integers(4, 9)),
        expert_used_count=int(rng.integers(2, 4)),
        expert_feed_forward_length=int(rng.choice([32, 48, 80])),
        hash_layer_count=int(rng.integers(0, 4)),
        swiglu_clamp_exp=(float(rng.choice([1.0, 2.0, 10.0])),) * layers,
    )


@pytest.fixture(scope="module", params=range(4))
def pair(request, tmp_path_factory):
    """A transformers model and the same one, saved by transformers and converted by us."""
    g = random_geometry(request.param)
    theirs = transformers_model(g, random_values(g, request.param))
    folder = tmp_path_factory.mktemp("checkpoint")
    theirs.save_pretrained(folder / "hf", max_shard_size="200KB")
    convert(folder / "hf", folder / "model.gguf", "f32", cache_simulation=False)
    ids = random_ids(320, g, request.param)
    return load_model(folder / "model.gguf"), ids, logits_of(theirs, ids)


@pytest.mark.parametrize("chunking", CHUNKINGS)
def test_logits_equal_transformers(pair, chunking):
    model, ids, expected = pair
    sequence, got = model.new_sequence(), []
    sizes = [*CHUNKINGS[chunking], *[CHUNKINGS[chunking][-1]] * len(ids)]
    for size in sizes:
        if sequence.length < len(ids):
            got.append(model.forward([(sequence, ids[sequence.length : sequence.length + size])], every=True))
    got = np.concatenate(got)
    np.testing.assert_allclose(got, expected, atol=1e-3)
    np.testing.assert_array_equal(got.argmax(1), expected.argmax(1))
