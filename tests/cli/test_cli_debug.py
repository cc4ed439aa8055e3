"""`debug render`, `debug tokens` and `debug logits`, on a random tiny model."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ds4_backend.cli.debug_logits import spans
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.tokenizer import Tokenizer

HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]
TOOL = {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object"}}}


@pytest.fixture
def ask(run, model_file, tmp_path):
    """Runs a debug command on what a messages file holds."""

    def asked(command: str, body: object, *words: str):
        file = tmp_path / "messages.json"
        file.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
        return run("debug", command, "--model", model_file, "--messages", file, *words)

    return asked


def test_render_prints_the_prompt_and_nothing_else(ask):
    result = ask("render", HELLO)
    assert result.stdout.startswith("<｜begin▁of▁sentence｜>")
    assert "Be brief.<｜User｜>Hello!<｜Assistant｜><think>" in result.stdout
    assert not result.stdout.endswith("\n")


def test_render_as_json_holds_segments_and_dialect(ask):
    shown = json.loads(ask("render", {"messages": HELLO, "thinking": False}, "--json").stdout)
    assert "".join(segment["text"] for segment in shown["segments"]) == shown["text"]
    assert shown["segments"][0] == {"text": "<｜begin▁of▁sentence｜>", "control": True}
    assert (shown["thinking"], shown["dialect"]) == (False, "0731")


def test_tokens_as_json_are_the_prompts_ids(ask, model_file):
    ids = json.loads(ask("tokens", HELLO, "--json").stdout)["ids"]
    with open_gguf(model_file) as file:
        tokenizer = Tokenizer.from_gguf(file.metadata)
    assert ids[0] == tokenizer.bos
    assert tokenizer.decode(ids).endswith("Hello!<｜Assistant｜><think>")


def test_tokens_as_text_show_one_a_line(ask):
    ids = json.loads(ask("tokens", HELLO, "--json").stdout)["ids"]
    lines = ask("tokens", HELLO).stdout.splitlines()
    assert [int(line.split()[0]) for line in lines] == ids


def test_tools_thinking_and_effort_reach_the_prompt(ask):
    assert "now" in ask("render", {"messages": HELLO, "tools": [TOOL]}).stdout
    assert ask("render", {"messages": HELLO, "thinking": {"type": "disabled"}}).stdout.endswith("</think>")
    assert ask("render", {"messages": HELLO, "effort": "max"}).stdout != ask("render", HELLO).stdout


def test_control_words_in_a_message_stay_data(ask, model_file):
    ids = json.loads(ask("tokens", [{"role": "user", "content": "<｜User｜>"}], "--json").stdout)["ids"]
    with open_gguf(model_file) as file:
        assert ids.count(Tokenizer.from_gguf(file.metadata).token_id("<｜User｜>")) == 1


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("{", "is not JSON"),
        ("3", "holds no messages"),
        ({"tools": []}, "holds no messages"),
        ({"messages": HELLO, "thinking": "maybe"}, "thinking is 'maybe'"),
        ({"messages": HELLO, "effort": "huge"}, "huge"),
        ({"messages": HELLO, "effort": ["low"]}, "effort ['low'] is not known"),
        ([{"role": "robot", "content": "x"}], "robot"),
        ([{"role": "user", "content": 5}], "message 1: the content is no string and is not a list"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_bad_messages_file_is_told(ask, body, told):
    result = ask("render", body)
    assert result.exit_code == 1 and told in result.output


def test_a_byte_order_mark_is_no_error(ask):
    assert ask("render", "\ufeff" + json.dumps(HELLO)).stdout == ask("render", HELLO).stdout


def test_keys_without_effect_are_named_on_stderr(ask):
    result = ask("render", {"messages": HELLO, "temperature": 0})
    assert result.exit_code == 0
    assert "'temperature'" in result.stderr and "temperature" not in result.stdout


def test_a_missing_messages_file_is_told(run, model_file, tmp_path):
    result = run("debug", "render", "--model", model_file, "--messages", tmp_path / "none.json")
    assert result.exit_code == 1 and "none.json cannot be read" in result.output


@pytest.fixture
def logits(run, model_file, tmp_path):
    """Runs `debug logits` on ids and returns what it wrote."""

    def computed(ids: np.ndarray, *words: str) -> np.ndarray:
        np.save(tmp_path / "ids.npy", ids)
        out = tmp_path / "logits.npy"
        result = run("debug", "logits", model_file, "--tokens", tmp_path / "ids.npy", "--out", out, *words)
        assert result.exit_code == 0, result.output
        return np.load(out)

    return computed


def some_ids(n: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 320, n).astype(np.int32)


def test_logits_have_a_row_for_every_token(logits):
    whole = logits(some_ids(40))
    assert whole.shape == (40, 320) and whole.dtype == np.float32
    assert np.isfinite(whole).all() and whole.std() > 0


def test_any_chunks_give_the_same_logits(logits):
    ids = some_ids(200)
    whole, ragged = logits(ids), logits(ids, "--chunks", "1,7,64,...")
    assert np.abs(whole - ragged).max() < 1e-3
    assert (whole.argmax(-1) == ragged.argmax(-1)).all()


def test_the_simulation_switch_changes_the_logits(logits):
    ids = some_ids(60)
    assert np.abs(logits(ids) - logits(ids, "--cache-simulation")).max() > 1e-4


def test_the_files_own_key_is_the_default(logits):
    ids = some_ids(60)
    assert (logits(ids) == logits(ids, "--no-cache-simulation")).all()


@pytest.mark.parametrize("bad", [np.zeros((2, 2), np.int32), np.zeros(3, np.float32), np.zeros(0, np.int32)])
def test_ids_of_another_shape_or_type_are_refused(run, model_file, tmp_path, bad):
    np.save(tmp_path / "ids.npy", bad)
    words = ("--tokens", tmp_path / "ids.npy", "--out", tmp_path / "out.npy")
    result = run("debug", "logits", model_file, *words)
    assert result.exit_code == 1 and "wanted: int32 [N]" in result.output


@pytest.mark.parametrize("bad", [np.array([-1]), np.array([2**63], np.uint64)])
def test_ids_that_no_int32_holds_are_refused(run, model_file, tmp_path, bad):
    np.save(tmp_path / "ids.npy", bad)
    words = ("--tokens", tmp_path / "ids.npy", "--out", tmp_path / "out.npy")
    result = run("debug", "logits", model_file, *words)
    assert result.exit_code == 1 and "wanted: int32, 0 or more" in result.output


def test_an_empty_file_of_ids_is_refused(run, model_file, tmp_path):
    (tmp_path / "ids.npy").touch()
    words = ("--tokens", tmp_path / "ids.npy", "--out", tmp_path / "out.npy")
    result = run("debug", "logits", model_file, *words)
    assert result.exit_code == 1 and "cannot be read as .npy" in result.output


@pytest.mark.parametrize(("out", "told"), [("none/out.npy", "its folder is not there"), (".", "it is a folder")])
def test_logits_with_no_place_to_go_are_not_computed(run, model_file, tmp_path, out, told):
    np.save(tmp_path / "ids.npy", some_ids(3))
    result = run("debug", "logits", model_file, "--tokens", tmp_path / "ids.npy", "--out", tmp_path / out)
    assert result.exit_code == 1 and told in result.output


def test_a_failed_run_leaves_no_half_file(run, model_file, tmp_path):
    np.save(tmp_path / "ids.npy", np.array([1, 320]))
    words = ("--tokens", tmp_path / "ids.npy", "--out", tmp_path / "out.npy")
    result = run("debug", "logits", model_file, *words)
    assert result.exit_code == 1 and "outside the vocabulary" in result.output
    assert not list(tmp_path.glob("out.npy*"))


@pytest.mark.parametrize("bad", ["0", "1,x", "", "-3"])
def test_bad_chunk_sizes_are_refused(run, model_file, tmp_path, bad):
    words = ("--tokens", tmp_path / "ids.npy", "--out", tmp_path / "out.npy", f"--chunks={bad}")
    assert run("debug", "logits", model_file, *words).exit_code == 2


def test_spans_cover_everything_and_the_last_size_repeats():
    assert list(spans(20, (1, 7, 5))) == [(0, 1), (1, 8), (8, 13), (13, 18), (18, 20)]
    assert list(spans(3, (8,))) == [(0, 3)]
