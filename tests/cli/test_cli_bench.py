"""`bench` on ds4-tiny: ds4-bench's columns, the first token's three times, and a picture."""

from __future__ import annotations

import csv
import json
import os
from xml.etree import ElementTree

import pytest

from ds4_backend.engine.running import running


@pytest.fixture
def quick(run, tmp_path):
    """A bench of a few hundred tokens."""
    words = ["--ctx-start", "200", "--ctx-max", "300", "--step-incr", "100", "--gen-tokens", "4"]
    return lambda *more: run("bench", "ds4-tiny", *words, *more)


def test_the_csv_begins_with_the_columns_of_ds4_bench(quick, tmp_path):
    out, drawn = tmp_path / "speed.csv", tmp_path / "speed.svg"
    result = quick("--first-token", "0", "--contexts", "640", "--csv", out, "--svg", drawn)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader(out.open()))
    assert list(rows[0])[:6] == [
        "ctx_tokens", "prefill_tokens", "prefill_tps", "gen_tokens", "gen_tps", "kvcache_bytes",
    ]  # fmt: skip
    assert [row["ctx_tokens"] for row in rows] == ["200", "300", "641"]
    assert [row["prefill_tokens"] for row in rows] == ["200", "100", "0"]
    assert all(float(row["gen_tps"]) > 0 and int(row["kvcache_bytes"]) > 0 for row in rows)
    assert len(ElementTree.parse(drawn).getroot()) > 2
    assert "random" in result.output and "numpy ops" in result.output


def ours() -> dict[str, str]:
    """The settings in the environment. What MLX reads there is set at its first use, and stays."""
    return {name: value for name, value in os.environ.items() if name.startswith("DS4_")}


@pytest.mark.slow
def test_the_first_token_comes_from_memory_and_from_disk_without_reading_again(quick):
    before = ours()
    running("ds4-tiny")  # it has another cache than the one that bench makes
    result = quick("--first-token", "600", "--batch", "1,2", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    first = told["first_token"]
    assert first["tokens"] >= 600
    assert first["from_memory"] == first["tokens"] - 1 and first["from_disk"] >= 512
    assert 0 < first["memory"] < first["cold"] and first["disk"] > 0
    assert list(told["batch"]) == ["1", "2"] and told["ops"] == "numpy"
    assert ours() == before


def test_a_prompt_that_is_too_short_is_refused_with_the_numbers(quick, tmp_path):
    text = tmp_path / "short.txt"
    text.write_text("Nel mezzo del cammin")
    result = quick("--prompt-file", text)
    assert result.exit_code == 1 and "--ctx-max asks for 300" in result.output


def test_contexts_that_cannot_be_walked_are_refused(run):
    result = run("bench", "--ctx-start", "500", "--ctx-max", "100")
    assert result.exit_code == 1 and "--ctx-start 500 is more than --ctx-max 100" in result.output
