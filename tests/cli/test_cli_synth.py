"""`debug synth`: what it writes, and what it refuses."""

from __future__ import annotations

from ds4_backend.gguf.reader import open_gguf


def test_a_random_model_is_written_and_not_replaced_unasked(run, tmp_path):
    out = tmp_path / "random.gguf"
    words = ["debug", "synth", out, "--geometry", "tiny", "--layers", "1", "--jobs", "1"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    with open_gguf(out) as file:
        assert file.metadata["deepseek4.block_count"] == 1
    again = run(*words)
    assert again.exit_code == 1 and "--force replaces it" in again.output
    assert run(*words, "--force").exit_code == 0


def test_more_layers_than_there_are_are_refused(run, tmp_path):
    result = run("debug", "synth", tmp_path / "x.gguf", "--geometry", "flash", "--layers", "44")
    assert result.exit_code == 1 and "flash has 43 layers" in result.output
