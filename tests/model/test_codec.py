"""State as bytes: nothing is lost, sizes are as planned, and bytes of another size are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_model import SMALL, geometry, random_ids, random_model

from ds4_backend.errors import EngineError
from ds4_backend.model.codec import StateCodec
from ds4_backend.model.sequence import Snapshot
from ds4_backend.ops import simulate

FLASH = geometry(
    block_count=43,
    attention_key_length=512,
    rope_dimension_count=64,
    attention_indexer_key_length=128,
    attention_sliding_window=128,
    attention_compress_ratios=(0, 0, *(4, 128) * 20, 4),
    swiglu_clamp_exp=(10.0,) * 43,
)


@pytest.mark.parametrize("simulated", [False, True])
@pytest.mark.parametrize("length", [1, 3, 32, 127, 128, 130, 256, 300])
def test_a_conversation_survives_being_bytes(length, simulated):
    model, other = (random_model(seed=2, cache_simulation=simulated) for _ in range(2))
    codec = StateCodec(model.geometry, packed=simulated)
    sequence = model.new_sequence()
    model.forward([(sequence, random_ids(length))])
    snapshot = sequence.export()
    pages, tail = codec.encode_pages(snapshot.pages), codec.encode_tail(snapshot.tail, length)
    assert len(pages) == length // 128 and all(len(page) == codec.page_nbytes for page in pages)
    assert len(tail) == codec.tail_nbytes(length)
    restored = Snapshot(length, codec.decode_pages(b"".join(pages)), codec.decode_tail(tail, length))
    resumed = other.import_sequence(restored)
    ids = random_ids(140, seed=9)
    np.testing.assert_array_equal(other.forward([(resumed, ids)]), model.forward([(sequence, ids)]))


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.floats(-30, 12))
def test_packing_keeps_every_bit_of_simulated_rows_of_any_size(seed, power):
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((3, 80)) * 2.0**power * 2.0 ** rng.integers(-12, 1, (3, 80))).astype(np.float32)
    rows[0, :8] = 0
    rounded, keys = simulate.round_rows(rows, 16), simulate.round_indexer(rows[:, :64])
    codec = StateCodec(geometry(attention_indexer_key_length=64), packed=True)
    for kind, values in (("csa", rounded), ("indexer", keys)):
        back = codec._decode(kind, codec._encode(kind, values[None]), (1, *values.shape))[0]
        np.testing.assert_array_equal(back, values)


def test_flash_pages_and_tails_have_the_planned_sizes():
    packed, plain = StateCodec(FLASH, packed=True), StateCodec(FLASH, packed=False)
    assert packed.page_nbytes == 21 * 32 * (584 + 68) + 20 * 584 == 449_824
    assert plain.page_nbytes == 2 * 880_640
    assert packed.tail_nbytes(1280) == 43 * 128 * 584 + 430_080  # 3.6 MB


def test_bytes_of_another_size_are_refused_with_both_sizes():
    codec = StateCodec(SMALL, packed=True)
    with pytest.raises(EngineError, match=r"row of 1 pages has \d+,\d+ bytes; this network's have"):
        codec.decode_pages(b"x" * (codec.page_nbytes + 10))
    with pytest.raises(EngineError, match="tail at 300 tokens"):
        codec.decode_tail(b"x" * 10, 300)
