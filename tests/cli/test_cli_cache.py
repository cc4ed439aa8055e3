"""`cache`: what it says of a store that a conversation has filled, and that a purge leaves nothing."""

from __future__ import annotations

import json
import shutil

import pytest

from ds4_backend.connect import connect
from ds4_backend.types import Message, Request, Sampling

CANARY = "The canary of room nineteen sings. "


@pytest.fixture(scope="module")
def conversation(tmp_path_factory):
    """A cache folder with one conversation of ds4-tiny, asked twice; and the prompt's ids."""
    folder = tmp_path_factory.mktemp("conversation")
    request = Request((Message("system", CANARY * 60), Message("user", "Hello!")), sampling=Sampling(temperature=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DS4_BACKEND_CACHE_DIR", str(folder))
        for _ in range(2):
            with connect("ds4-tiny") as engine:
                list(engine.chat(request))
                ids = engine._job(request).prompt.ids
    return folder, ids


@pytest.fixture
def filled(conversation, tmp_path, run):
    """A copy of it as the cache folder of `run`, and the ids."""
    folder, ids = conversation
    shutil.copytree(folder, tmp_path / "cache")
    return tmp_path / "cache" / "prompts", ids


def test_stats_count_what_is_held_and_what_was_saved(filled, run):
    said = json.loads(run("cache", "stats", "--json").output)
    assert said["tokens"] >= 512 and said["conversations"] == 1 and said["requests"] == 2
    assert 0.4 < said["hit_ratio"] < 0.5
    assert said["written_today"] == said["written_total"] > 0
    assert "hit ratio" in run("cache", "stats").output


def test_ls_names_the_model(filled, run):
    (entry,) = json.loads(run("cache", "ls", "--json").output)
    assert entry["model"] == "ds4-tiny" and entry["tokens"] >= 512
    assert "ds4-tiny" in run("cache", "ls").output


def test_verify_finds_a_flipped_bit(filled, run):
    folder, _ = filled
    assert json.loads(run("cache", "verify", "--json").output)["bad"] == []
    segment = next(folder.glob("blocks-*.seg"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    result = run("cache", "verify", "--json")
    assert result.exit_code == 1
    assert len(json.loads(result.output)["bad"]) == 1


def test_after_a_purge_neither_text_nor_token_ids_are_in_any_file(filled, run):
    folder, ids = filled
    packed = b"".join(token.to_bytes(4, "little") for token in ids[200:232])
    assert any(packed in path.read_bytes() for path in folder.iterdir())
    run("cache", "purge", "--yes")
    for path in folder.iterdir():
        assert packed not in path.read_bytes() and b"room nineteen" not in path.read_bytes()
    assert json.loads(run("cache", "stats", "--json").output)["tokens"] == 0


def test_purging_one_model_spares_the_others(filled, run):
    assert "no state of 'other'" in run("cache", "purge", "--model", "other").output
    assert json.loads(run("cache", "ls", "--json").output)
    run("cache", "purge", "--model", "ds4-tiny")
    assert json.loads(run("cache", "ls", "--json").output) == []


def test_an_age_that_is_none_is_refused(filled, run):
    assert "'soon' is no age" in run("cache", "purge", "--unused", "soon").output


def test_gc_gives_back_bytes(filled, run):
    assert "nbytes" in json.loads(run("cache", "gc", "--json").output)
