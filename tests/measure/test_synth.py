"""Random models of true shapes: their sizes are the real ones', they load, and their numbers are sane."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ds4_backend.errors import ConversionError
from ds4_backend.gguf.decode import dequantize
from ds4_backend.gguf.formats import FORMATS
from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.gguf.shapes import FLASH, GEOMETRIES, PRO, TINY, first_layers
from ds4_backend.measure import synth
from ds4_backend.measure.random_blocks import random_pool
from ds4_backend.model import load_model
from ds4_backend.tokenizer import Tokenizer

# docs/model.md, section 5: bytes of tensor data of the published builds
PUBLISHED = {"q2": 86_714_775_900, "q4": 164_628_167_004}


TWO_LAYERS = first_layers(TINY, 2)


def tensor_bytes(layout):
    return sum(plan.nbytes for plan in layout.plans.values())


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("synth") / "tiny.gguf"
    synth.write_random(TWO_LAYERS, "q2", path, jobs=1)
    return path


@pytest.mark.parametrize("recipe", ["q2", pytest.param("q4", marks=pytest.mark.slow)])
def test_a_random_flash_has_the_size_of_the_published_build(recipe):
    layout = synth.plan(FLASH, recipe)
    assert len(layout.plans) == 1328
    assert tensor_bytes(layout) == pytest.approx(PUBLISHED[recipe], rel=0.002)


@pytest.mark.slow
def test_pro_is_six_times_flash():
    assert tensor_bytes(synth.plan(PRO, "q2")) == pytest.approx(5.4 * PUBLISHED["q2"], rel=0.1)


def test_the_shapes_have_the_layers_of_the_published_ones():
    assert [len(FLASH.layers_of(ratio)) for ratio in (0, 4, 128)] == [2, 21, 20]
    assert [len(PRO.layers_of(ratio)) for ratio in (0, 4, 128)] == [0, 30, 31]
    for geometry in GEOMETRIES.values():
        assert Geometry.from_metadata({"general.architecture": "deepseek4"} | geometry.to_metadata()) == geometry


def test_a_cut_network_keeps_its_first_layers():
    cut = first_layers(FLASH, 2)
    assert (cut.block_count, cut.attention_compress_ratios, cut.hash_layer_count) == (2, (0, 0), 2)
    with pytest.raises(ValueError, match="44 layers of a network that has 43"):
        first_layers(FLASH, 44)


@pytest.mark.parametrize("name", ["F16", "Q8_0", "Q2_K", "Q4_K", "IQ2_XXS", "MXFP4"])
@pytest.mark.parametrize("deviation", [1.0, 4096**-0.5])
def test_random_blocks_decode_to_the_deviation_asked_for(name, deviation):
    pool = random_pool(name, deviation, np.random.default_rng(0))
    values = dequantize(pool[-4096:], FORMATS[name])
    assert values.std() == pytest.approx(deviation, rel=0.03)
    assert abs(values.mean()) < 0.02 * deviation


def sane_logits(path):
    model = load_model(path)
    sequence = model.new_sequence()
    logits = model.forward([(sequence, list(range(150)))], every=True)
    return np.isfinite(logits).all() and 0.3 < logits.std() < 3


def test_a_random_model_loads_and_its_logits_are_of_order_one(tiny_file):
    assert sane_logits(tiny_file)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["q2", "q4", "mxfp4"])
def test_so_does_one_of_every_recipe_with_every_kind_of_layer(recipe, tmp_path):
    path = tmp_path / "random.gguf"
    synth.write_random(TINY, recipe, path, jobs=1)
    assert sane_logits(path)


def test_every_expert_named_by_a_random_table_exists_once_a_row(tiny_file):
    with open_gguf(tiny_file) as file:
        table = file.tensors["blk.1.ffn_gate_tid2eid.weight"].array()
    assert table.shape == (TINY.vocab_size, 6)
    assert table.min() >= 0 and table.max() < TINY.expert_count
    assert all(len(set(row)) == 6 for row in table[:50].tolist())


def test_its_tokenizer_holds_every_byte_and_the_special_tokens(tiny_file):
    with open_gguf(tiny_file) as file:
        tokenizer = Tokenizer.from_gguf(file.metadata)
    assert tokenizer.vocab_size == TINY.vocab_size
    assert tokenizer.decode(tokenizer.encode("Größe 42\n")) == "Größe 42\n"


@pytest.mark.slow
def test_several_processes_write_the_same_bytes_as_one(tiny_file, tmp_path):
    other = tmp_path / "other.gguf"
    seen = []
    synth.write_random(TWO_LAYERS, "q2", other, jobs=2, report=lambda done, total: seen.append((done, total)))
    assert other.read_bytes() == tiny_file.read_bytes()
    assert seen[-1][0] == seen[-1][1] and len(seen) > 1


@pytest.mark.slow
def test_another_seed_gives_other_weights(tiny_file, tmp_path):
    other = tmp_path / "other.gguf"
    synth.write_random(TWO_LAYERS, "q2", other, jobs=1, seed=1)
    assert other.stat().st_size == tiny_file.stat().st_size
    assert other.read_bytes() != tiny_file.read_bytes()


def test_a_full_disk_is_refused_before_the_first_byte(tmp_path):
    huge = replace(TWO_LAYERS, expert_count=1 << 24, expert_feed_forward_length=1 << 14)
    with pytest.raises(ConversionError, match=r"needs \d+\.\d GB more"):
        synth.write_random(huge, "q4", tmp_path / "huge.gguf")
    assert list(tmp_path.iterdir()) == []
