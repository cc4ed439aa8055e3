"""A vocabulary small enough to build in a test: the 256 bytes, a few merges that cross word and tag borders, and the
special tokens. Its pieces split characters, so every hold-back of the parser is exercised."""

from __future__ import annotations

from typing import Any

import pytest

from ds4_backend.tokenizer import BYTE_TO_LETTER, REQUIRED, Tokenizer

MERGES = [
    "Ċ Ċ", "ĊĊ <", "Ċ <", "< /", "t o", "to o", "too l", '" >', '"> Ċ', "> Ċ", "e l", "h i", "ð Ł", "Ġ <", '{ "', "ï ½",
]  # fmt: skip
EXTRA = ["<｜latest_reminder｜>", "<｜action｜>"]


def small_metadata() -> dict[str, Any]:
    letters = list(BYTE_TO_LETTER.values())
    made = [merge.replace(" ", "") for merge in MERGES]
    special = [*REQUIRED, *EXTRA]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "joyai-llm",
        "tokenizer.ggml.tokens": [*special, *letters, *made],
        "tokenizer.ggml.token_type": [3] * len(special) + [1] * (len(letters) + len(made)),
        "tokenizer.ggml.merges": MERGES,
    }


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_gguf(small_metadata())
