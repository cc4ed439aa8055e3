"""A Hugging Face `tokenizer.json` as GGUF's `tokenizer.ggml.*` keys.

Base tokens stay in their byte-mapped form (`Ġ` is a space), added tokens are literal. It knows nothing of weights. How
text is split is not stored in GGUF but named (`joyai-llm`), so a tokenizer that splits differently is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ds4_backend.errors import ConversionError
from ds4_backend.tokenizer import (
    ASSISTANT,
    BOS,
    CONTROL,
    DSML,
    EOS,
    NORMAL,
    SPLITS,
    THINK,
    THINK_END,
    USER,
    USER_DEFINED,
)

UNUSED = 5
"""GGUF's token type of an id that stands for nothing."""

_SPECIALS = (BOS, EOS, "<｜▁pad▁｜>", USER, ASSISTANT, THINK, THINK_END, DSML)
SMALLEST_FALLBACK = len(_SPECIALS) + 256 + 1
"""Ids that the stand-in vocabulary needs: special tokens, bytes, and the result of one merge."""


def tokenizer_metadata(folder: Path, config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The `tokenizer.*` keys for a model folder, and notes for the report.

    Without a tokenizer.json (random test models) a stand-in vocabulary is written, or no keys if it does not fit.
    Raises ConversionError when the tokenizer is none of DeepSeek's kind or does not fit `vocab_size`.
    """
    path, size = folder / "tokenizer.json", int(config["vocab_size"])
    if not path.exists():
        return stand_in(size)
    try:
        tokenizer = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ConversionError(f"{path} is not valid JSON; download it again") from None
    _check_kind(tokenizer)
    tokens, types, notes = _tokens(tokenizer, size)
    options = _options(folder)
    special = {role: _special_id(role, config, options, tokens) for role in ("bos", "eos", "pad")}
    if special["pad"] is None:
        special["pad"] = special["eos"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    metadata = _keys(tokens, types, merges, special)
    template = _template(folder, options)
    return metadata | ({"tokenizer.chat_template": template} if template else {}), notes


def byte_letters() -> list[str]:
    """The letter that stands for each byte 0-255 in byte-level BPE.

    Printable bytes stand for themselves; the others take U+0100 upward in byte order (GPT-2's table).
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def _keys(tokens: list[str], types: list[int], merges: list[str], special: Mapping[str, int | None]) -> dict[str, Any]:
    names = {"bos": "bos_token_id", "eos": "eos_token_id", "pad": "padding_token_id"}
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "joyai-llm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
        **{f"tokenizer.ggml.{names[role]}": token for role, token in special.items() if token is not None},
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
    }


def _check_kind(tokenizer: Any) -> None:
    model = tokenizer.get("model") if isinstance(tokenizer, dict) else None
    if not isinstance(model, dict) or model.get("type") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise ConversionError("tokenizer.json is no BPE tokenizer; DeepSeek V4's is byte-level BPE")
    if not model.get("merges"):
        raise ConversionError("tokenizer.json lists no merges")
    steps = (tokenizer.get("pre_tokenizer") or {}).get("pretokenizers") or []
    found = [_plain(step["pattern"].get("Regex", "")) for step in steps if step.get("type") == "Split"]
    if found != [_plain(pattern) for pattern in SPLITS] or not any(s.get("type") == "ByteLevel" for s in steps):
        raise ConversionError(
            "tokenizer.json splits text in another way than DeepSeek's three patterns and bytes; "
            "GGUF can only name that way (joyai-llm), so the model would read text wrongly"
        )


def _plain(pattern: str) -> str:
    """One spelling of a pattern: line ends as escapes, quotes bare."""
    return pattern.replace("\r", r"\r").replace("\n", r"\n").replace(r"\"", '"')


def _tokens(tokenizer: Mapping[str, Any], size: int) -> tuple[list[str], list[int], list[str]]:
    texts: list[str | None] = [None] * size
    types = [UNUSED] * size
    added = {token["id"]: token for token in tokenizer.get("added_tokens") or []}
    base = {token: text for text, token in tokenizer["model"]["vocab"].items()}
    highest = max([*added, *base])
    if highest >= size:
        raise ConversionError(f"tokenizer.json has token id {highest}, but config.json's vocab_size is {size}")
    for token, text in base.items():
        texts[token], types[token] = text, NORMAL
    for token, entry in added.items():
        control = entry.get("special") or re.fullmatch(r"<[｜|].*[｜|]>", entry["content"])
        texts[token], types[token] = entry["content"], CONTROL if control else USER_DEFINED
    holes = texts.count(None)
    notes = [f"{holes} of {size} token ids are not in tokenizer.json and are written as unused"] if holes else []
    return [text if text is not None else f"[PAD{i}]" for i, text in enumerate(texts)], types, notes


def _options(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    try:
        options = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError:
        raise ConversionError(f"{path} is not valid JSON; download it again") from None
    return options if isinstance(options, dict) else {}


def _special_id(role: str, config: Mapping[str, Any], options: Mapping[str, Any], tokens: list[str]) -> int | None:
    """The id of the bos, eos or pad token: config.json's, else that of tokenizer_config.json's text."""
    token = config.get(f"{role}_token_id")
    if isinstance(token, int) and 0 <= token < len(tokens):
        return token
    if token is not None:
        raise ConversionError(f"config.json: {role}_token_id is {token!r}; ids run from 0 to {len(tokens) - 1}")
    text = options.get(f"{role}_token")
    text = text.get("content") if isinstance(text, dict) else text
    return tokens.index(text) if text in tokens else None


def _template(folder: Path, options: Mapping[str, Any]) -> str | None:
    path = folder / "chat_template.jinja"
    template = path.read_text(encoding="utf-8") if path.exists() else options.get("chat_template")
    return template if isinstance(template, str) else None


def stand_in(size: int) -> tuple[dict[str, Any], list[str]]:
    """Special tokens, the 256 bytes, one merge (files must have some), and unused filler."""
    if size < SMALLEST_FALLBACK:
        return {}, [
            f"no tokenizer.json, and a vocabulary of {size} is too small for a stand-in ({SMALLEST_FALLBACK}): "
            "the file has no tokenizer"
        ]
    letters = byte_letters()
    space = letters[ord(" ")]
    tokens = [*_SPECIALS, *letters, space + space]
    types = [CONTROL] * len(_SPECIALS) + [NORMAL] * 257 + [UNUSED] * (size - len(tokens))
    tokens += [f"[PAD{i}]" for i in range(len(tokens), size)]
    note = "no tokenizer.json: the file got a stand-in vocabulary of special tokens and single bytes"
    return _keys(tokens, types, [f"{space} {space}"], {"bos": 0, "eos": 1, "pad": 2}), [note]
