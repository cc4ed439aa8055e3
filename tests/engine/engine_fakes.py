"""A real tokenizer over bytes, and a model that writes what it is told: for tests of the machinery around a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import numpy as np
from tokenizers import pre_tokenizers

from ds4_backend.engine.local import LocalEngine
from ds4_backend.tokenizer import ASSISTANT, EOS, REQUIRED, Tokenizer
from ds4_backend.types import Message, Request, Sampling

Reply = Callable[[str], str]
"""From the text of the prompt, up to the last `<｜Assistant｜>`, to what the model then writes (special tokens too)."""


def byte_tokenizer() -> Tokenizer:
    """The special tokens, then one token for each byte."""
    tokens = [*REQUIRED, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    types = [3] * len(REQUIRED) + [1] * 256
    return Tokenizer.from_gguf(
        {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types, "tokenizer.ggml.merges": []}
    )


class FakeSequence:
    """Remembers what it has read, and counts how many are alive."""

    def __init__(self, model: WritingModel, ids: Sequence[int] = ()) -> None:
        self.model, self.ids = model, list(ids)
        model.alive.add(id(self))

    @property
    def length(self) -> int:
        return len(self.ids)

    def fork(self) -> FakeSequence:
        return FakeSequence(self.model, self.ids)

    def release(self) -> None:
        self.model.alive.remove(id(self))


class WritingModel:
    """Its logits after any ids depend on these ids alone, as a network's do: the next token of `reply(prompt)`."""

    prefill_tokens = 128

    def __init__(self, tokenizer: Tokenizer, reply: Reply, context: int = 4096) -> None:
        self.tokenizer, self.reply = tokenizer, reply
        self.geometry = SimpleNamespace(context_length=context)
        self.alive: set[int] = set()
        self._written: dict[tuple[int, ...], list[int]] = {}
        self.forwarded: list[list[int]] = []
        self.batches: list[list[list[int]]] = []
        self.on_forward: Callable[[], None] = lambda: None

    def new_sequence(self) -> FakeSequence:
        return FakeSequence(self)

    def forward(self, spans: list[tuple[FakeSequence, Sequence[int]]]) -> np.ndarray:
        self.on_forward()
        self.batches.append([list(ids) for _, ids in spans])
        self.forwarded += self.batches[-1]
        rows = []
        for sequence, ids in spans:
            sequence.ids.extend(ids)
            rows.append(self._logits(sequence.ids))
        return np.stack(rows)

    def _logits(self, ids: list[int]) -> np.ndarray:
        row = np.zeros(self.tokenizer.vocab_size, np.float32)
        opening = self.tokenizer.token_id(ASSISTANT)
        if opening in ids:
            start = len(ids) - ids[::-1].index(opening)  # right after it; one more token opens the answer
            written = self._ids_after(tuple(ids[:start]))
            row[written[min(len(ids) - start - 1, len(written) - 1)]] = 20.0
        return row

    def _ids_after(self, prompt: tuple[int, ...]) -> list[int]:
        """The reply to a prompt, spelt once."""
        if prompt not in self._written:
            reply = self.reply(self.tokenizer.decode(prompt))
            self._written[prompt] = self.tokenizer.encode(reply + EOS, control=True)
        return self._written[prompt]


def engine_that_writes(reply: Reply | str, **options: object) -> tuple[LocalEngine, WritingModel]:
    """A LocalEngine, greedy by default, over a model that answers every prompt with `reply`."""
    tokenizer = byte_tokenizer()
    context = options.pop("context_length", 4096)
    model = WritingModel(tokenizer, reply if callable(reply) else lambda prompt: reply, context)  # type: ignore[arg-type]
    settings = {"name": "fake", "defaults": Sampling(temperature=0)} | options
    return LocalEngine(model, tokenizer, "0731", **settings), model  # type: ignore[arg-type]


def ask(*texts: str, **options: object) -> Request:
    """A request whose messages are user, assistant, user, ... in turn; without thinking unless asked."""
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], text) for i, text in enumerate(texts))  # type: ignore[arg-type]
    return Request(messages, **({"thinking": False} | options))  # type: ignore[arg-type]
