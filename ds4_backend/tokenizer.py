"""Text to token ids and back, built from a GGUF file's vocabulary.

Control text (the prompt's own special tokens) and data (whatever a caller wrote) are encoded apart: data never
becomes a special id, even where it spells one. Byte-level BPE itself is the `tokenizers` library. This module knows
no prompt format and no file format, only the `tokenizer.ggml.*` metadata.
"""

from __future__ import annotations

import codecs
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ds4_backend.errors import FileError, RequestError

if TYPE_CHECKING:
    import tokenizers

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
USER = "<｜User｜>"
ASSISTANT = "<｜Assistant｜>"
THINK = "<think>"
THINK_END = "</think>"
DSML = "｜DSML｜"
REQUIRED = (BOS, EOS, USER, ASSISTANT, THINK, THINK_END, DSML)

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # the GGUF's token types that carry text; others are holes in the vocabulary

# Names under which converters store this model family's split rules; both stand for SPLITS.
PRE_TOKENIZERS = ("joyai-llm", "deepseek-v3")

# The published tokenizer.json: digits by three, Chinese and kana runs, then words, punctuation and white space. Each
# rule splits what the one before it left over.
SPLITS = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


class Segment(Protocol):
    """A stretch of a prompt: `control` text may hold special tokens, data may not."""

    @property
    def text(self) -> str: ...

    @property
    def control(self) -> bool: ...


class Tokenizer:
    """The vocabulary of one model file. Immutable; safe to share between threads."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        bpe = vocabulary.bpe()
        self._data = _pipeline(bpe)
        self._control = _pipeline(bpe)
        self._control.add_special_tokens(vocabulary.added_tokens())
        self._bytes: dict[int, bytes] = {}
        self.bos = vocabulary.ids[BOS]
        self.eos = vocabulary.ids[EOS]
        self.vocab_size = len(vocabulary.tokens)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Tokenizer:
        """Build it from a model file's metadata.

        `metadata` holds `tokenizer.ggml.tokens` (str, in id order; normal tokens in GPT-2's byte letters, added ones
        as they read), `tokenizer.ggml.token_type` (int) and `tokenizer.ggml.merges` ("left right", by rank).

        Raises FileError where one is missing or they contradict each other, naming the token.
        """
        return cls(Vocabulary.from_gguf(metadata))

    def encode(self, text: str, control: bool = False) -> list[int]:
        """The ids of `text`. With `control` the added tokens in it are recognised, otherwise none ever is.

        Raises RequestError for a lone surrogate, which is not text.
        """
        try:
            return (self._control if control else self._data).encode(text, add_special_tokens=False).ids
        except (UnicodeEncodeError, TypeError) as error:
            raise RequestError(f"the text is not valid Unicode ({error}): remove the lone surrogate") from error

    def encode_segments(self, segments: Iterable[Segment]) -> list[int]:
        """The ids of a prompt, each segment encoded by its own kind."""
        return [id for segment in segments for id in self.encode(segment.text, segment.control)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, special tokens spelt out. Bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def stream(self) -> StreamDecoder:
        """A decoder for ids that arrive one at a time."""
        return StreamDecoder(self)

    def token_id(self, text: str) -> int:
        """The id of the one token whose text is `text`, an added token or a plain one.

        Raises RequestError where there is none.
        """
        vocabulary = self._vocabulary
        if text in vocabulary.added:
            return vocabulary.ids[text]
        id = vocabulary.ids.get("".join(BYTE_TO_LETTER[byte] for byte in text.encode()))
        if id is None or vocabulary.tokens[id] in vocabulary.added:
            raise RequestError(f"{text!r} is not one token of this model's vocabulary of {self.vocab_size}")
        return id

    def is_special(self, id: int) -> bool:
        """Whether `id` is an added token, one that data never yields."""
        return 0 <= id < self.vocab_size and self._vocabulary.tokens[id] in self._vocabulary.added

    def is_normal(self, id: int) -> bool:
        """Whether `id` is a token of plain text: neither an added one nor a hole in the vocabulary."""
        return 0 <= id < self.vocab_size and self._vocabulary.types[id] == NORMAL

    def token_bytes(self, id: int) -> bytes:
        """The UTF-8 bytes that token `id` stands for; they may begin or end inside a character.

        Raises RequestError for an id outside the vocabulary.
        """
        if (known := self._bytes.get(id)) is not None:
            return known
        if not 0 <= id < self.vocab_size:
            raise RequestError(f"token id {id} is outside the vocabulary of {self.vocab_size} tokens")
        token = self._vocabulary.tokens[id]
        normal = self._vocabulary.types[id] == NORMAL
        value = bytes(map(LETTER_TO_BYTE.__getitem__, token)) if normal else token.encode()
        self._bytes[id] = value
        return value


class StreamDecoder:
    """Turns ids into text as they come; a character that lies across tokens is held back until it is whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that is certain after `id`; empty while a character is incomplete."""
        return self._decoder.decode(self._tokenizer.token_bytes(id))

    @property
    def inside_character(self) -> bool:
        """Whether the ids so far end inside a character."""
        return bool(self._decoder.getstate()[0])

    def flush(self) -> str:
        """What was held back: empty, or U+FFFD for a character that never became whole."""
        return self._decoder.decode(b"", final=True)


@dataclass(frozen=True)
class Vocabulary:
    """Checked `tokenizer.ggml.*` metadata: tokens and types by id, merges by rank, and the set of added tokens."""

    tokens: Sequence[str]
    types: Sequence[int]
    merges: Sequence[tuple[str, str]]

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Vocabulary:
        """Read and check; see `Tokenizer.from_gguf`."""
        _check_kind(metadata)
        tokens = [str(token) for token in _array(metadata, "tokens")]
        types = [int(kind) for kind in _array(metadata, "token_type")]
        merges = [_merge(rank, str(text)) for rank, text in enumerate(_array(metadata, "merges"))]
        vocabulary = cls(tokens, types, merges)
        vocabulary._check()
        return vocabulary

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """Token text, as stored, to id."""
        return {token: id for id, token in enumerate(self.tokens)}

    @functools.cached_property
    def added(self) -> frozenset[str]:
        """The tokens that BPE never makes: control and user-defined ones."""
        return frozenset(
            token for token, kind in zip(self.tokens, self.types, strict=True) if kind in (CONTROL, USER_DEFINED)
        )

    def bpe(self) -> tokenizers.models.BPE:
        """The merge model over the whole vocabulary."""
        from tokenizers import models

        try:
            return models.BPE(vocab=self.ids, merges=list(self.merges))
        except Exception as error:  # the library's own class: it names the token that a merge lacks
            raise FileError(f"the vocabulary and its merges do not fit together: {error}") from error

    def added_tokens(self) -> list[tokenizers.AddedToken]:
        """The added tokens in id order, to be matched in raw text without stripping."""
        from tokenizers import AddedToken

        return [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(self.tokens, self.types, strict=True)
            if kind in (CONTROL, USER_DEFINED)
        ]

    def _check(self) -> None:
        if len(self.types) != len(self.tokens):
            raise FileError(f"the file has {len(self.tokens)} tokens but {len(self.types)} token types")
        if len(self.ids) != len(self.tokens):
            twice = next(token for id, token in enumerate(self.tokens) if self.ids[token] != id)
            raise FileError(f"the token {twice!r} occurs more than once in the vocabulary")
        if lacking := [token for token in REQUIRED if token not in self.added]:
            raise FileError(f"the vocabulary has no special token {lacking[0]!r}: this is not a DeepSeek V4 tokenizer")
        normal = {token for token, kind in zip(self.tokens, self.types, strict=True) if kind == NORMAL}
        if lacking := [letter for letter in LETTER_TO_BYTE if letter not in normal]:
            raise FileError(f"the vocabulary has no token for the byte {LETTER_TO_BYTE[lacking[0]]:#04x}")
        if foreign := set("".join(normal)) - LETTER_TO_BYTE.keys():
            token = next(token for token in normal if foreign & set(token))
            raise FileError(f"the normal token {token!r} is not written in GPT-2's byte letters")
        made = {left + right for left, right in self.merges}
        if clash := made & self.added:
            raise FileError(f"a merge makes the special token {min(clash)!r}, so plain text could spell it")


def _check_kind(metadata: Mapping[str, Any]) -> None:
    model = metadata.get("tokenizer.ggml.model", "gpt2")
    if model != "gpt2":
        raise FileError(f"the tokenizer is of kind {model!r}; DeepSeek V4's is byte-level BPE, 'gpt2'")
    pre = metadata.get("tokenizer.ggml.pre", PRE_TOKENIZERS[0])
    if pre not in PRE_TOKENIZERS:
        known = " or ".join(map(repr, PRE_TOKENIZERS))
        raise FileError(f"the tokenizer splits text by the rules {pre!r}; DeepSeek V4's are {known}")


def _array(metadata: Mapping[str, Any], name: str) -> Sequence[Any]:
    key = f"tokenizer.ggml.{name}"
    value = metadata.get(key)
    if value is None or isinstance(value, str | bytes) or not hasattr(value, "__len__"):
        raise FileError(f"the file has no tokenizer: the metadata array {key} is missing")
    if len(value) == 0 and name != "merges":
        raise FileError(f"the metadata array {key} is empty")
    return value


def _merge(rank: int, text: str) -> tuple[str, str]:
    left, space, right = text.partition(" ")
    if not (left and space and right) or " " in right:
        raise FileError(f"merge {rank} is {text!r}; a merge is two tokens with one space between")
    return left, right


def _pipeline(bpe: tokenizers.models.BPE) -> tokenizers.Tokenizer:
    from tokenizers import Regex, Tokenizer, pre_tokenizers

    pipeline = Tokenizer(bpe)
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in SPLITS]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pipeline.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_bytes])
    return pipeline


def _byte_letters() -> dict[int, str]:
    """GPT-2's table: the 188 printable Latin-1 bytes stand for themselves, the others for U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    return letters | {byte: chr(0x100 + index) for index, byte in enumerate(others)}


BYTE_TO_LETTER = _byte_letters()
LETTER_TO_BYTE = {letter: byte for byte, letter in BYTE_TO_LETTER.items()}
