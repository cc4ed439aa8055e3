"""The bench's method: where it measures, what it feeds, and what it leaves behind."""

from __future__ import annotations

import numpy as np
import pytest
from random_model import SMALL, random_ids, random_model

from ds4_backend.gguf.shapes import FLASH
from ds4_backend.measure import frontiers as bench
from ds4_backend.measure.bandwidth import copy_bandwidth
from ds4_backend.measure.synthetic_state import synthetic_sequence
from ds4_backend.measure.traffic import Ceiling, state_bytes, state_size, weight_bytes


@pytest.fixture(scope="module")
def model():
    return random_model(cache_simulation=True)


def test_frontiers_walk_to_the_last_one_and_never_past_it():
    assert bench.frontiers(2048, 8192, 2048) == [2048, 4096, 6144, 8192]
    assert bench.frontiers(512, 3000, 2048) == [512, 2560, 3000]
    assert bench.frontiers(512, 40000, 1, factor=4.0) == [512, 2048, 8192, 32768, 40000]
    assert bench.frontiers(7, 7, 100) == [7]


def test_a_walk_reads_each_token_once_and_leaves_the_context_as_it_was(model, monkeypatch):
    fed = []
    forward = model.forward

    def spy(spans, **options):
        fed.append((spans[0][0].length, len(spans[0][1])))
        return forward(spans, **options)

    monkeypatch.setattr(model, "forward", spy)
    rows = list(bench.walk(model, random_ids(300), [100, 300], gen_tokens=3, eos=None))
    assert [(r.ctx_tokens, r.prefill_tokens, r.gen_tokens) for r in rows] == [(100, 100, 3), (300, 200, 3)]
    assert all(r.prefill_tps > 0 and r.gen_tps > 0 for r in rows)
    prompt = [entry for entry in fed if entry[1] > 1]
    # chunks end on the grid of 128 from position 0, whatever the frontiers
    assert prompt == [(0, 100), (100, 28), (128, 128), (256, 44)]
    assert model.arena.slots_in_use == 0 and model.arena.pages_in_use == 0


def test_the_end_token_is_never_fed(model):
    logits = np.zeros(SMALL.vocab_size, np.float32)
    logits[[5, 9]] = 2.0, 1.0
    fed = []

    class Fake:
        def forward(self, spans):
            fed.append(spans[0][1][0])
            return logits[None]

    for eos in (None, 9, 5):
        bench.step(Fake(), None, logits, eos)
    assert fed == [5, 5, 9]


def test_a_synthetic_state_exports_what_was_put_in_and_decodes(model):
    for length in (128, 131, 20 * 128 + 77):
        sequence = synthetic_sequence(model, length)
        logits = model.forward([(sequence, [1])])
        assert sequence.length == length + 1
        assert np.isfinite(logits).all() and logits.std() > 0
        sequence.release()
    row = bench.synthetic_row(model, 1000, 2, None)
    assert (row.ctx_tokens, row.prefill_tokens, row.gen_tokens) == (1001, 0, 2)
    assert model.arena.pages_in_use == 0


def test_a_long_synthetic_state_repeats_few_rows(model, monkeypatch):
    monkeypatch.setattr("ds4_backend.measure.synthetic_state.BATCH_PAGES", 2)
    sequence = synthetic_sequence(model, 8 * 128)
    rows = sequence.export_pages(range(8))["csa"]
    assert not np.array_equal(rows[0], rows[2]) and not np.array_equal(rows[0], rows[4])
    sequence.release()


def test_batched_decoding_is_measured_for_every_size(model):
    rates = bench.batch_rates(model, [1, 3], 130, 2)
    assert list(rates) == [1, 3] and min(rates.values()) > 0
    assert model.arena.slots_in_use == 0


def test_launches_are_counted_per_token_where_the_ops_count_them(model, monkeypatch):
    forward = model.forward

    def counted(spans, **options):
        model.ops.launches += 7
        return forward(spans, **options)

    assert bench.launch_count(model) is None
    monkeypatch.setattr(model.ops, "launches", 0, raising=False)
    monkeypatch.setattr(model, "forward", counted)
    assert bench.synthetic_row(model, 128, 4, None).launches == 7.0


# docs/model.md, section 3: bytes of float16 state
STATE = {1_024: 12_681_216, 100_000: 693_630_976, 1_048_576: 7_219_838_976}


@pytest.mark.parametrize(("length", "nbytes"), STATE.items())
def test_the_state_of_flash_takes_what_the_model_document_says(length, nbytes):
    assert state_size(FLASH, length) == nbytes


def test_a_flash_token_reads_what_the_roofline_counts():
    from ds4_backend.gguf.formats import FORMATS
    from ds4_backend.gguf.reader import Tensor
    from ds4_backend.measure.synth import plan

    tensors = {
        name: Tensor(name, p.shape, FORMATS[p.format_name], np.broadcast_to(np.uint8(0), (p.nbytes,)))
        for name, p in plan(FLASH, "q2").plans.items()
    }
    assert weight_bytes(tensors, FLASH) == pytest.approx(9112 * 2**20, rel=0.005)
    assert state_bytes(FLASH, 2048) == pytest.approx(19 * 2**20, rel=0.15)
    assert state_bytes(FLASH, 131_072) == pytest.approx(204 * 2**20, rel=0.05)


def test_the_share_of_the_ceiling_is_one_where_only_the_memory_limits():
    ceiling = Ceiling(1e12, 9_000_000_000, FLASH)
    fastest = 1e12 / (9_000_000_000 + state_bytes(FLASH, 2048))
    assert ceiling.share(fastest, 2048) == pytest.approx(1.0)
    assert ceiling.share(fastest, 131_072) > 1.0  # the same speed with more to read


@pytest.mark.parametrize("ops", ["numpy", "mlx"])
def test_memory_has_a_speed(ops):
    assert copy_bandwidth(ops, 4 << 20) > 1e6


def test_stored_bytes_are_those_of_the_cache(model):
    from ds4_backend.model.codec import StateCodec

    sequence = synthetic_sequence(model, 300)
    codec = StateCodec(model.geometry, packed=True)
    snapshot = sequence.export()
    stored = sum(map(len, codec.encode_pages(snapshot.pages))) + len(codec.encode_tail(snapshot.tail, 300))
    assert bench.stored_bytes(model, 300) == stored
    sequence.release()
