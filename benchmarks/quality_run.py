"""Puts questions to a model: its greedy answers, and how likely it finds the reference answers.

Prompts, parser and arithmetic are the engine's; the answers of several questions are decoded side by side, which the
engine does not do, because that takes a third of the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from quality_tasks import Answer, Case, transcript

from ds4_backend.catalog.profile import profile_of
from ds4_backend.chat import Parser, render
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.model import load_model
from ds4_backend.model.sequence import Sequence as State
from ds4_backend.tokenizer import Tokenizer
from ds4_backend.types import Event, TextDelta, ToolCallDelta, ToolCallStart

MAX_TOKENS = 256
"""A longer answer is cut; no right one is near it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One case: whether the answer was right, the answer, and log-probabilities [n, V] for the n tokens of the
    reference answer, `ids`. Cases with thinking have no rows, for their reference holds no thoughts. `prompt` [m, V]
    are those after each token of the prompt but the last, if they were asked for."""

    right: bool
    answer: Answer
    ids: NDArray[np.int64]
    logprobs: NDArray[np.float32]
    prompt: NDArray[np.float32]


@dataclass(slots=True)
class _Reading:
    """An answer being made: `logits` [V] come after everything that `state` has been through, `prompt` [m, V] after
    the prompt's other tokens."""

    state: State
    logits: NDArray[np.float32]
    prompt: NDArray[np.float32]
    parser: Parser
    events: list[Event] = field(default_factory=list)
    length: int = 0


class Examinee:
    """A model file, loaded to be questioned on the CPU."""

    def __init__(self, path: Path) -> None:
        self.nbytes = path.stat().st_size
        file = open_gguf(path)
        profile = profile_of(file)
        self.dialect = profile.dialect
        self.tokenizer = Tokenizer.from_gguf(file.metadata)
        self.model = load_model(file, ops="numpy", cache_simulation=profile.cache_simulation)

    def take(self, cases: Sequence[Case], *, prompts: bool = False) -> list[Outcome]:
        """The outcomes of cases that are decoded together; with `prompts`, what is expected inside prompts too."""
        readings = [self._read(case, prompts) for case in cases]
        references = [self._reference(case, reading) for case, reading in zip(cases, readings, strict=True)]
        self._decode(readings)
        answers = [answer_of(reading.events) for reading in readings]
        return [
            Outcome(case.right(answer), answer, *reference, log_softmax(reading.prompt))
            for case, answer, reference, reading in zip(cases, answers, references, readings, strict=True)
        ]

    def _read(self, case: Case, every: bool) -> _Reading:
        """Run the prompt, and keep the logits after every token or after the last."""
        rendered = render(case.request, self.dialect)
        ids = self.tokenizer.encode_segments(rendered.segments)
        state, step = self.model.new_sequence(), self.model.prefill_tokens
        parts = [ids[start : start + step] for start in range(0, len(ids), step)]
        logits = [self.model.forward([(state, part)], every=every) for part in parts]
        known = np.concatenate(logits if every else logits[-1:])
        return _Reading(state, known[-1], known[:-1], Parser(self.tokenizer, rendered.thinking))

    def _reference(self, case: Case, reading: _Reading) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The ids of the reference answer, end-of-sentence included, and log-probabilities before each of them."""
        if case.request.thinking:
            return np.zeros(0, np.int64), np.zeros((0, len(reading.logits)), np.float32)
        ids = self.tokenizer.encode(transcript(case, self.dialect)[1], control=True)
        state = reading.state.fork()
        after = self.model.forward([(state, ids[:-1])], every=True)
        state.release()
        return np.array(ids), log_softmax(np.concatenate([reading.logits[None], after]))

    def _decode(self, readings: list[_Reading]) -> None:
        """Greedy answers, one token of each at a time; releases the states."""
        for reading in readings:
            if self._push(reading):
                reading.state.release()
        while active := [reading for reading in readings if not reading.parser.done]:
            spans = [(reading.state, [int(reading.logits.argmax())]) for reading in active]
            for reading, logits in zip(active, self.model.forward(spans), strict=True):
                reading.logits = logits
                if self._push(reading):
                    reading.state.release()

    def _push(self, reading: _Reading) -> bool:
        """Give the parser the likeliest token; whether the answer is complete."""
        reading.events += reading.parser.push(int(reading.logits.argmax()))
        reading.length += 1
        if reading.length == MAX_TOKENS:
            reading.events += reading.parser.finish()
        return reading.parser.done


def answer_of(events: Sequence[Event]) -> Answer:
    """The events of one turn, put together."""
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    calls = [(event.index, event.name) for event in events if isinstance(event, ToolCallStart)]
    pieces = [event for event in events if isinstance(event, ToolCallDelta)]
    made = ((name, "".join(piece.text for piece in pieces if piece.index == index)) for index, name in calls)
    return Answer(text.strip(), tuple(made))


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def divergence(base: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """KL(base || other) in nats of each row of log-probabilities."""
    return (np.exp(base.astype(np.float64)) * (base - other)).sum(axis=-1)


def groups(cases: Sequence[Case], size: int) -> Iterator[Sequence[Case]]:
    """At most `size` cases at a time."""
    return (cases[start : start + size] for start in range(0, len(cases), size))
