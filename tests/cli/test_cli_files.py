"""`inspect`, `convert` and `imatrix`, on a random tiny checkpoint."""

from __future__ import annotations

import json

from ds4_backend.gguf.reader import open_gguf


def test_inspect_prints_text_and_json(run, model_file):
    assert "routed experts" in run("inspect", model_file).output
    description = json.loads(run("inspect", model_file, "--json").output)
    assert description["metadata"]["ds4.dialect"] == "0731"


def test_inspect_of_a_file_that_is_not_gguf_is_an_error(run, tmp_path):
    file = tmp_path / "x.bin"
    file.write_bytes(b"not a model at all, but long enough for a header")
    result = run("inspect", file)
    assert result.exit_code == 1 and "x.bin" in result.output


def test_convert_writes_a_file_that_says_how_it_was_made(run, checkpoint, tmp_path):
    out = tmp_path / "out.gguf"
    words = ("--recipe", "q4", "--dialect", "preview", "--no-cache-simulation", "--license", "mit")
    result = run("convert", checkpoint, out, *words)
    assert result.exit_code == 0, result.output
    assert "out.gguf" in result.output and "fallback" in result.output
    with open_gguf(out) as file:
        assert file.metadata["ds4.dialect"] == "preview"
        assert file.metadata["ds4.cache_simulation"] is False
        assert file.metadata["general.license"] == "mit"


def test_convert_replaces_nothing_without_force(run, checkpoint, tmp_path):
    out = tmp_path / "out.gguf"
    assert run("convert", checkpoint, out, "--recipe", "q8").exit_code == 0
    again = run("convert", checkpoint, out, "--recipe", "q8")
    assert again.exit_code == 1 and "--force" in again.output
    assert run("convert", checkpoint, out, "--recipe", "q8", "--force").exit_code == 0


def test_an_unknown_recipe_is_refused_with_the_known_ones(run, checkpoint, tmp_path):
    result = run("convert", checkpoint, tmp_path / "out.gguf", "--recipe", "q3")
    assert result.exit_code == 2 and "mxfp4" in result.output


def test_the_commands_recipes_and_dialects_are_the_converters():
    from ds4_backend.cli.convert import command
    from ds4_backend.convert import RECIPES
    from ds4_backend.settings import MODEL_KEYS

    options = {parameter.name: parameter.type for parameter in command.params}
    assert set(options["recipe"].choices) == set(RECIPES)
    assert ", ".join(options["dialect"].choices) in MODEL_KEYS["dialect"].allowed


def test_an_imatrix_is_measured_and_used(run, checkpoint, model_file, tmp_path):
    text, matrix, out = tmp_path / "text.txt", tmp_path / "m.dat", tmp_path / "out.gguf"
    text.write_text("A text that says a few things. " * 30, encoding="utf-8")
    result = run("imatrix", model_file, text, "--out", matrix, "--max-tokens", "200")
    assert result.exit_code == 0, result.output
    # the begin-of-sentence token comes on top
    assert "201 tokens" in result.output and "experts were reached" in result.output
    result = run("convert", checkpoint, out, "--recipe", "q8", "--imatrix", matrix)
    assert result.exit_code == 0, result.output
    with open_gguf(out) as file:
        assert file.metadata["quantize.imatrix.file"] == "m.dat"
