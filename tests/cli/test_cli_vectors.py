"""`verify --vectors`, `debug ppl` and `debug logprobs`: they pass on the model itself and fail on another one."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from ds4_backend import catalog
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.measure import vectors as module
from ds4_backend.measure.vectors import PROMPTS, read_vectors


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """Made of ds4-tiny by the command."""
    from click.testing import CliRunner

    from ds4_backend.cli import main

    out = tmp_path_factory.mktemp("vectors") / "tiny.json"
    result = CliRunner().invoke(main, ["verify", "ds4-tiny", "--make-vectors", str(out), "--tokens", "2"])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def perturbed(tmp_path_factory):
    """ds4-tiny with half of its output matrix's rows shuffled."""
    path = tmp_path_factory.mktemp("perturbed") / "ds4-tiny.gguf"
    shutil.copy(catalog.resolve("ds4-tiny"), path)
    with open_gguf(path) as file:
        tensor = file.tensors["output.weight"]
        start = tensor.data.ctypes.data - np.frombuffer(file.parts[0].map, np.uint8).ctypes.data
        rows, width = tensor.data.shape
        del tensor
    data = np.memmap(path, np.uint8, "r+", start, (rows, width))
    chosen = np.random.default_rng(0).permutation(rows)[: rows // 2]
    data[np.sort(chosen)] = data[chosen]
    data.flush()
    return path


@pytest.mark.slow
def test_a_model_passes_its_own_vectors_and_fails_when_its_weights_change(vectors, perturbed, run):
    result = run("verify", "ds4-tiny", "--vectors", vectors)
    assert result.exit_code == 0, result.output
    assert result.output.count("good ") == len(PROMPTS)
    result = run("verify", perturbed, "--vectors", vectors, "--json")
    told = json.loads(result.stdout)
    assert result.exit_code == 1 and told["answers_ok"] is False and "sha256" not in told
    assert any("it should be" in line for answer in told["answers"] for line in answer["wrong"])


@pytest.mark.slow
def test_the_other_ops_answer_alike(vectors, run):
    result = run("verify", "ds4-tiny", "--vectors", vectors, "--ops", "mlx")
    assert result.exit_code == 0, result.output


def test_vectors_have_the_published_form(vectors):
    one = json.loads(vectors.read_text())[0]
    assert one["schema"] == "ds4-official-logprobs-v1"
    assert one["request"]["messages"][0]["role"] == "user" and one["request"]["thinking"] == {"type": "disabled"}
    first = one["steps"][0]
    assert bytes(first["token"]["bytes"]).decode() == first["token"]["text"]
    assert len(first["top_logprobs"]) == 20 and first["top_logprobs"][0]["logprob"] == first["logprob"] <= 0


PUBLISHED = {
    "schema": "ds4-official-logprobs-v1", "source": "deepseek-official-api", "id": "sum",
    "request": {"messages": [{"role": "user", "content": "What?"}], "thinking": {"type": "disabled"}},
    "finish_reason": "stop",
    "steps": [{"step": 0, "token": {"text": "16", "bytes": [49, 54]}, "logprob": 0.0, "top_logprobs": [
        {"token": {"text": "16", "bytes": [49, 54]}, "logprob": 0.0},
        {"token": {"text": "204", "bytes": [50, 48, 52]}, "logprob": -9999.0}]}],
}  # fmt: skip


def test_a_published_file_and_a_folder_of_them_are_read(tmp_path):
    (tmp_path / "sum.official.json").write_text(json.dumps(PUBLISHED))
    (tmp_path / "manifest.json").write_text('{"schema": "ds4-test-vector-manifest-v1"}')
    (vector,) = read_vectors(tmp_path)
    assert (vector.name, vector.ended, vector.thinking, vector.tolerance) == ("sum", True, False, 4.0)
    assert vector.steps[0].token == b"16" and vector.steps[0].top[1] == (b"204", -9999.0)


def test_differences_are_counted_by_bytes_and_only_for_likely_alternatives():
    vector = module._vector(PUBLISHED, Path("sum.json"))
    step = vector.steps[0]
    assert module._differences(0, step, [(7, b"16", -0.5), (8, b" 16", -2.0)], 1.0) == ([], 0.5)
    wrong, largest = module._differences(0, step, [(8, b" 16", -0.1), (7, b"16", -3.0)], 1.0)
    assert len(wrong) == 2 and "it should be b'16'" in wrong[0] and "-3.00, not 0.00" in wrong[1] and largest == 3.0
    assert "not among the 1 likeliest" in module._differences(0, step, [(8, b"x", -0.1)], 1.0)[0][1]


def test_files_that_are_no_vectors_are_refused(run, tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"steps": 3}')
    result = run("verify", "ds4-tiny", "--vectors", path)
    assert result.exit_code == 1 and "holds no vectors" in result.output
    result = run("verify", "ds4-tiny", "--vectors", tmp_path)
    assert result.exit_code == 1 and "no .json file of the form" in result.output


@pytest.mark.slow
def test_perplexity_is_that_of_the_logits_whatever_the_chunks(run, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("What is 12 plus 30? It is 42. " * 3)
    result = run("debug", "ppl", "ds4-tiny", text, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["perplexity"] == pytest.approx(math.exp(told["nll"]))
    assert 1 < told["perplexity"] < 4096
    result = run("debug", "ppl", "ds4-tiny", text, "--context", "9", "--json")
    windowed = json.loads(result.stdout)
    assert windowed["tokens"] == told["tokens"] and windowed["nll"] != told["nll"]
    text.write_text("")
    assert "is empty" in run("debug", "ppl", "ds4-tiny", text).output


@pytest.mark.slow
def test_log_probabilities_are_shown_and_make_a_vector(run, tmp_path):
    messages = tmp_path / "hello.json"
    messages.write_text(json.dumps([{"role": "user", "content": "What is 3 plus 4?"}]))
    words = ["debug", "logprobs", "--model", "ds4-tiny", "--messages", messages, "--tokens", "2"]
    assert "ended: " in run(*words).output
    vector = tmp_path / "vector.json"
    vector.write_text(run(*words, "--json").stdout)
    assert run("verify", "ds4-tiny", "--vectors", vector).exit_code == 0
