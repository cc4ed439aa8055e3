"""Collecting importance on a random tiny model."""

from __future__ import annotations

import numpy as np
import pytest
from checkpoint_maker import make_folder, official_config, random_weights

from ds4_backend.convert import convert
from ds4_backend.convert.collect import Sums, _pieces, collect
from ds4_backend.convert.imatrix import read_imatrix_file
from ds4_backend.errors import ConversionError


def test_squares_are_averaged_per_expert():
    sums = Sums(3)
    sums.observe(0, "down", np.array([2, 0, 2]), np.array([[1, 2], [3, 0], [3, 4]], np.float32))
    sums.observe(0, "down", np.array([0]), np.array([[1, 2]], np.float32))
    assert sums.means()["blk.0.ffn_down_exps.weight"].tolist() == [[5, 2], [0, 0], [5, 10]]


def test_gate_and_up_share_what_enters_them():
    sums = Sums(1)
    sums.observe(4, "gate_up", np.array([0]), np.array([[2, 3]], np.float32))
    assert list(sums.means()) == ["blk.4.ffn_gate_exps.weight", "blk.4.ffn_up_exps.weight"]


def test_every_piece_starts_with_the_begin_token_once():
    assert list(_pieces([5, 6, 7, 8, 9], 3, bos=0)) == [[0, 5, 6], [0, 7, 8], [0, 9]]
    assert list(_pieces([0, 6, 7, 8], 3, bos=0)) == [[0, 6, 7], [0, 8]]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two experts, both always used; norms of the feed-forward layers are plain."""
    folder = tmp_path_factory.mktemp("collect")
    config = official_config(n_routed_experts=2)
    weights = random_weights(config)
    for layer in range(4):
        weights[f"layers.{layer}.ffn_norm.weight"][:] = 1
    make_folder(folder / "model", config, weights)
    convert(folder / "model", folder / "model.gguf", "f16", cache_simulation=False)
    (folder / "text.txt").write_text("Twelve small words that no one ever said. " * 5, encoding="utf-8")
    return folder


def test_a_text_gives_every_routed_tensor_its_importance(model, tmp_path):
    seen = []
    done = collect(
        model / "model.gguf", model / "text.txt", tmp_path / "i.dat", chunk=100, report=lambda *now: seen.append(now)
    )
    assert (done.silent, done.experts, done.chunks) == (0, 8, 3)
    assert seen[-1] == (done.tokens, done.tokens)
    matrix = read_imatrix_file(tmp_path / "i.dat")
    assert (matrix.chunks, matrix.dataset) == (3, "text.txt")
    assert len(matrix.entries) == 4 * 3
    for layer in range(4):
        entering = matrix.entries[f"blk.{layer}.ffn_up_exps.weight"].reshape(2, 64)
        assert np.allclose(entering.mean(axis=1), 1, atol=1e-3), "a normed row has mean square one"
        assert np.array_equal(entering[0], entering[1]), "both experts see every token"
        assert (matrix.entries[f"blk.{layer}.ffn_down_exps.weight"] > 0).all()


def test_the_middle_rows_are_taken_after_route_weighting(model, tmp_path):
    config = official_config(n_routed_experts=2, routed_scaling_factor=3.0)
    weights = random_weights(config)
    for layer in range(4):
        weights[f"layers.{layer}.ffn_norm.weight"][:] = 1
    make_folder(tmp_path / "model", config, weights)
    convert(tmp_path / "model", tmp_path / "model.gguf", "f16", cache_simulation=False)
    once, twice = tmp_path / "once.dat", tmp_path / "twice.dat"
    collect(model / "model.gguf", model / "text.txt", once, max_tokens=50)
    collect(tmp_path / "model.gguf", model / "text.txt", twice, max_tokens=50)
    name = "blk.0.ffn_down_exps.weight"
    ratio = read_imatrix_file(twice).entries[name] / read_imatrix_file(once).entries[name]
    assert np.allclose(ratio, 4, rtol=1e-4), "twice the route weight, four times the square"


def test_what_was_collected_can_be_converted_with(model, tmp_path):
    collect(model / "model.gguf", model / "text.txt", tmp_path / "i.dat", max_tokens=64)
    report = convert(model / "model", tmp_path / "out.gguf", "q8", imatrix=tmp_path / "i.dat")
    assert not any("no data" in note for note in report.notes)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot read the text"), (b" \n", "is empty"), (b"\xff\xfe", "is not UTF-8")]
)
def test_a_text_that_cannot_be_used_is_refused(model, tmp_path, content, message):
    if content is not None:
        (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(ConversionError, match=message):
        collect(model / "model.gguf", tmp_path / "t.txt", tmp_path / "i.dat")
    assert not (tmp_path / "i.dat").exists()


@pytest.mark.parametrize("out", ["none/out.dat", "."])
def test_a_place_that_cannot_be_written_is_refused_before_the_run(model, tmp_path, out):
    seen = []
    with pytest.raises(ConversionError, match="cannot be written"):
        collect(model / "model.gguf", model / "text.txt", tmp_path / out, report=lambda *now: seen.append(now))
    assert not seen


def test_chunks_of_one_token_are_refused(model, tmp_path):
    with pytest.raises(ConversionError, match="chunks of 1 tokens"):
        collect(model / "model.gguf", model / "text.txt", tmp_path / "i.dat", chunk=1)
