"""Speed over context, by ds4-bench's method: `ds4-backend bench`.

The context grows to one frontier after another. At each, the tokens since the last are read and timed; then a fork of
the conversation decodes a fixed number of tokens greedily, never taking the end token, and is dropped. Forking and
dropping are outside both times. Plain forward passes: no chat, no sampling, no streaming.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ds4_backend.gguf.geometry import PAGE_TOKENS
from ds4_backend.measure.synthetic_state import synthetic_sequence
from ds4_backend.model import Model
from ds4_backend.model import Sequence as Conversation
from ds4_backend.model.codec import StateCodec

COLUMNS = ("ctx_tokens", "prefill_tokens", "prefill_tps", "gen_tokens", "gen_tps", "kvcache_bytes")
"""ds4-bench's, so that results compare line by line."""


WARM_STEPS = 12
"""Steps that are not timed: kernels for this length, and every kind of step (rows close every fourth)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One frontier. `kvcache_bytes` is what the disk cache stores for it. Where nothing was read (synthetic state) the
    prefill columns are 0. `launches` are per decoded token, `ceiling` the share of the memory's speed, if known."""

    ctx_tokens: int
    prefill_tokens: int
    prefill_tps: float
    gen_tokens: int
    gen_tps: float
    kvcache_bytes: int
    launches: float | None = None
    ceiling: float | None = None


def frontiers(start: int, stop: int, step: int, factor: float = 1.0) -> list[int]:
    """Context lengths from `start` to `stop`, `step` apart or each `factor` times the last; `stop` is always one."""
    found = [start]
    while found[-1] < stop:
        now = found[-1]
        following = max(math.ceil(now * factor), now + 1) if factor > 1 else now + step
        found.append(min(following, stop))
    return found


def walk(model: Model, ids: Sequence[int], places: Sequence[int], gen_tokens: int, eos: int | None) -> Iterator[Row]:
    """A row for each of `places`, by real prefill of `ids`; yields each as it is measured."""
    sequence = model.new_sequence()
    try:
        logits, before = np.zeros(0, np.float32), 0
        for place in places:
            start = time.perf_counter()
            logits = prefill(model, sequence, ids[before:place])
            seconds = time.perf_counter() - start
            row = decode_row(model, sequence, logits, gen_tokens, eos)
            yield replace(row, prefill_tokens=place - before, prefill_tps=(place - before) / seconds)
            before = place
    finally:
        sequence.release()


def synthetic_row(model: Model, length: int, gen_tokens: int, eos: int | None) -> Row:
    """A row at `length` tokens that were never read: pages of random rows stand for them."""
    sequence = synthetic_sequence(model, length)
    try:
        logits = model.forward([(sequence, [0])])[0]
        return decode_row(model, sequence, logits, gen_tokens, eos)
    finally:
        sequence.release()


def decode_row(model: Model, sequence: Conversation, logits: np.ndarray, gen_tokens: int, eos: int | None) -> Row:
    """Decode on a fork of `sequence`, whose next token has `logits` [V]."""
    fork = sequence.fork()
    try:
        for _ in range(WARM_STEPS):
            logits = step(model, fork, logits, eos)
        launches, start = launch_count(model), time.perf_counter()
        for _ in range(gen_tokens):
            logits = step(model, fork, logits, eos)
        seconds = time.perf_counter() - start
    finally:
        fork.release()
    after = launch_count(model)
    each = None if launches is None or after is None else (after - launches) / gen_tokens
    stored = stored_bytes(model, sequence.length)
    return Row(sequence.length, 0, 0.0, gen_tokens, gen_tokens / seconds, stored, launches=each)


def batch_rates(model: Model, sizes: Sequence[int], length: int, gen_tokens: int) -> dict[int, float]:
    """Tokens a second of all conversations together, when so many decode side by side at `length` tokens each."""
    rates = {}
    for size in sizes:
        crowd = [synthetic_sequence(model, length, seed) for seed in range(size)]
        try:
            for count in (WARM_STEPS, gen_tokens):
                start = time.perf_counter()
                for _ in range(count):
                    model.forward([(sequence, [1 + place]) for place, sequence in enumerate(crowd)])
                rates[size] = size * count / (time.perf_counter() - start)
        finally:
            for sequence in crowd:
                sequence.release()
    return rates


def prefill(model: Model, sequence: Conversation, ids: Sequence[int]) -> np.ndarray:
    """Read `ids` in the model's own chunks; logits [V] of the last."""
    chunk, logits = model.prefill_tokens, np.zeros((1, 0), np.float32)
    at = 0
    while at < len(ids):
        count = min(chunk - sequence.length % chunk, len(ids) - at)
        logits = model.forward([(sequence, ids[at : at + count])])
        at += count
    return logits[0]


def step(model: Model, sequence: Conversation, logits: np.ndarray, eos: int | None) -> np.ndarray:
    """Feed the likeliest token that is not the end; logits [V] after it."""
    best = int(logits.argmax())
    if best == eos:
        best = int(np.argpartition(logits, -2)[-2])
    return model.forward([(sequence, [best])])[0]


def random_ids(model: Model, count: int, seed: int = 0) -> list[int]:
    """Token ids drawn evenly from the vocabulary: each layer's experts are all in use, the worst case of a prompt."""
    return np.random.default_rng(seed).integers(0, model.geometry.vocab_size, count).tolist()


def launch_count(model: Model) -> int | None:
    """Kernels that the ops have launched so far, where they count them."""
    counter = getattr(model.ops, "launcher", model.ops)
    count = getattr(counter, "launches", None)
    return None if count is None else int(count)


def stored_bytes(model: Model, length: int) -> int:
    """What the disk cache stores for a conversation of `length` tokens."""
    codec = StateCodec(model.geometry, packed=model.ops.cache_simulation)
    return codec.page_nbytes * (length // PAGE_TOKENS) + codec.tail_nbytes(length)
