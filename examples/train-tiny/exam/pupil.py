"""A model file that answers: greedily to a request, or by teacher forcing along a known conversation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ds4_tiny.chat import Talk, segments

from ds4_backend.catalog.profile import profile_of
from ds4_backend.chat import Parser, render
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.model import load_model
from ds4_backend.tokenizer import Tokenizer
from ds4_backend.types import Event, Request, TextDelta, ToolCallDelta, ToolCallStart

MAX_TOKENS = 320
Answer = tuple[str, list[tuple[str, str]]]
"""Visible text, and calls as name and JSON arguments."""


class Pupil:
    """A file, loaded for the CPU."""

    def __init__(self, path: Path, simulation: bool | None = None) -> None:
        file = open_gguf(path)
        profile = profile_of(file)
        self.dialect = profile.dialect or "0731"
        self.tokenizer = Tokenizer.from_gguf(file.metadata)
        simulated = profile.cache_simulation if simulation is None else simulation
        self.model = load_model(file, ops="numpy", cache_simulation=simulated)

    def knows(self, talk: Talk) -> list[bool]:
        """For each assistant turn of a conversation, whether greedy decoding writes it, token by token.

        That is so if every token is the likeliest after the ones before it: one pass instead of a decoding.
        """
        spans: list[tuple[int, int]] = []
        ids: list[int] = []
        for text, own in segments(talk):
            piece = self.tokenizer.encode(text, control=True)
            if own:
                spans.append((len(ids), len(ids) + len(piece)))
            ids += piece
        best = self.likeliest(ids)
        return [best[start - 1 : end - 1] == ids[start:end] for start, end in spans]

    def likeliest(self, ids: list[int]) -> list[int]:
        """The likeliest next token after each of `ids`."""
        state, step, out = self.model.new_sequence(), self.model.prefill_tokens, []
        for start in range(0, len(ids), step):
            logits = self.model.forward([(state, ids[start : start + step])], every=True)
            out += np.argmax(logits, axis=1).tolist()
        state.release()
        return out

    def answer(self, request: Request) -> Answer:
        """The greedy answer."""
        rendered = render(request, self.dialect)
        ids = self.tokenizer.encode_segments(rendered.segments)
        parser, state, step = (
            Parser(self.tokenizer, rendered.thinking),
            self.model.new_sequence(),
            self.model.prefill_tokens,
        )
        for start in range(0, len(ids), step):
            logits = self.model.forward([(state, ids[start : start + step])])
        events: list[Event] = []
        for _ in range(MAX_TOKENS):
            token = int(logits[0].argmax())
            events += parser.push(token)
            if parser.done:
                break
            logits = self.model.forward([(state, [token])])
        else:
            events += parser.finish()
        state.release()
        return _together(events)


def _together(events: list[Event]) -> Answer:
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    calls = [(event.index, event.name) for event in events if isinstance(event, ToolCallStart)]
    pieces = [event for event in events if isinstance(event, ToolCallDelta)]
    return text.strip(), [(name, "".join(p.text for p in pieces if p.index == index)) for index, name in calls]
