"""One answer, from a tokenised prompt to its end: prefill, decode, stop.

It owns one sequence while it runs, says what it wants read next and is given the logits. It knows nothing of other
answers, of locks, files or front ends.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ds4_backend.chat.replay import Encoded, record_of
from ds4_backend.engine.disk import Resumed
from ds4_backend.engine.pace import Pace, chunk_end
from ds4_backend.engine.ticket import Feed, Logits, Steps
from ds4_backend.gguf.geometry import PAGE_TOKENS
from ds4_backend.types import End, Event, FinishReason, Progress, Timings, Usage

if TYPE_CHECKING:
    from ds4_backend.chat import Parser
    from ds4_backend.engine.channel import Channel
    from ds4_backend.engine.disk import DiskCache
    from ds4_backend.engine.draw import Draw, Drawer
    from ds4_backend.engine.kept import KeptSequences
    from ds4_backend.engine.room import Room
    from ds4_backend.engine.turns import Turns
    from ds4_backend.model import Model, Sequence
    from ds4_backend.tokenizer import Tokenizer

Reading = Generator[Feed, Logits, Logits]
LENGTH_CAUSES = ("max_tokens", "context")


@dataclass(frozen=True, slots=True)
class Job:
    """A request made ready: its prompt, how to read and draw the answer, when to stop.

    `budget` is the most tokens that may be generated, `budget_cause` what set it: `max_tokens` or `context`. `traced`
    adds prompt and tokens to the end's metadata.
    """

    prompt: Encoded
    parser: Parser
    drawer: Drawer
    budget: int
    budget_cause: str
    tokenizer: Tokenizer
    metadata: dict[str, Any]
    private: bool = False
    traced: bool = False
    asked_at: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True, slots=True)
class Shelf:
    """What answers of one model share: sequences kept in memory, turns for replay, the disk (None where it is off), the
    memory (None where it is not watched)."""

    kept: KeptSequences
    turns: Turns
    disk: DiskCache | None = None
    room: Room | None = None


class Generation:
    """Runs one `Job` on a model."""

    def __init__(self, model: Model, job: Job, shelf: Shelf, pace: Pace) -> None:
        self._model, self._job, self._shelf, self._pace = model, job, shelf, pace
        self._disk = None if job.private else shelf.disk
        self._recorder = self._disk and self._disk.recorder(job.prompt)
        self._prompt = job.prompt.ids
        self._begun = False
        self._cached = 0
        self._read: list[int] = []  # ids that the sequence has been through
        self._sampled: list[int] = []  # without the end-of-sentence token

    def now(self) -> Progress:
        """How far it is. For any thread."""
        total, done = len(self._prompt), min(len(self._read), len(self._prompt))
        if not self._begun:
            return Progress(0, total, phase="queued")
        return Progress(done, total, self._cached, "prefill" if done < total else "decode", len(self._sampled))

    def steps(self, channel: Channel) -> Steps:
        """Everything, events into `channel`; the last is the `End`.

        The sequence is kept when the answer ends or is cancelled, and the turn is remembered for replay; after an
        error the sequence is released.
        """
        self._begun = True
        start = time.perf_counter()
        sequence, resumed = self._resume()
        self._cached = cached = sequence.length
        self._read.extend(self._prompt[:cached])
        begun = time.perf_counter()
        try:
            with _released_on_error(sequence):
                logits = yield from self._prefill(sequence, channel)
                first = time.perf_counter()
                cause = yield from self._decode(sequence, logits, channel)
                last = time.perf_counter()
        except GeneratorExit:
            self._keep(sequence)
            raise
        finally:
            if self._disk:
                self._disk.release(resumed)
        if self._disk:
            self._disk.timed(resumed, len(self._prompt) - cached, first - begun)
        self._keep(sequence)
        channel.put(self._end(cause, resumed, Timings(first - start, last - first, first - self._job.asked_at)))

    def _resume(self) -> tuple[Sequence, Resumed]:
        """The longest state of the prompt that memory or disk holds, as a sequence to go on with."""
        sequence = self._shelf.kept.resume(self._prompt)
        held = sequence.length if sequence else 0
        with _released_on_error(sequence):
            resumed = self._disk.resume(self._prompt, held) if self._disk else Resumed(None, memory=held)
        if resumed.sequence is not None:
            if sequence:
                sequence.release()
            sequence = resumed.sequence
        self._make_room(len(self._prompt) - (sequence.length if sequence else 0))
        return sequence or self._model.new_sequence(), resumed

    def _make_room(self, tokens: int) -> None:
        """Let go of kept sequences, the least recently used first, until memory holds that many more tokens."""
        kept, room = self._shelf.kept, self._shelf.room
        while room and len(kept) and not room.holds(tokens, self._model.arena.pages_free):
            kept.drop_oldest()

    def _keep(self, sequence: Sequence) -> None:
        job = self._job
        with _released_on_error(sequence):
            if record := record_of(job.prompt, self._sampled, job.parser, job.tokenizer):
                self._shelf.turns.add(record, job.prompt.parent, private=job.private)
            if self._recorder:
                self._recorder.finish(sequence)
        if self._read:
            self._shelf.kept.add(tuple(self._read), sequence)
        else:
            sequence.release()

    def _prefill(self, sequence: Sequence, channel: Channel) -> Reading:
        """Read the prompt; returns the logits [V] after it."""
        end = len(self._prompt)
        channel.put(self.now())
        while True:
            wanted = self._recorder.next_stop(len(self._read)) if self._recorder else None
            stop = chunk_end(len(self._read), end, self._pace.chunk(), wanted)
            logits = yield from self._feed(sequence, self._prompt[len(self._read) : stop], prompt=True)
            if self._recorder:
                self._recorder.passed(sequence)
            if stop == end - 1:
                # The last token opens the answer (`<think>` or `</think>`), and the next turn may open it differently.
                self._shelf.kept.add(self._prompt[:stop], sequence.fork())
                continue
            channel.put(self.now())
            if stop == end:
                return logits

    def _decode(self, sequence: Sequence, logits: Logits, channel: Channel) -> Generator[Feed, Logits, str]:
        """Draw tokens until something ends the answer; returns what did."""
        job = self._job
        cause = None if job.budget else job.budget_cause
        while cause is None:
            draw = job.drawer.next(logits)
            cause = self._take(draw, channel)
            if cause is None:
                for piece in pieces(sequence.length, draw.tokens):
                    logits = yield from self._feed(sequence, piece, prompt=False)
                    if self._recorder:
                        self._recorder.passed(sequence, piece)
        if not job.parser.done:
            self._put(channel, job.parser.finish())
        return cause if job.parser.stop_string is None else "stop_string"

    def _take(self, draw: Draw, channel: Channel) -> str | None:
        """The answer's next tokens; returns what ends it with them, if anything does."""
        job, parser = self._job, self._job.parser
        for token, logprob in zip(draw.tokens, draw.logprobs or (None,) * len(draw.tokens), strict=True):
            if token == job.tokenizer.eos:
                return self._ended("eos", channel)
            self._sampled.append(token)
            self._put(channel, parser.push(token, logprob))
            if parser.done:
                return "stop_string" if parser.stop_string is not None else "tool_calls"
        if len(self._sampled) >= job.budget:
            return job.budget_cause
        return self._ended("grammar", channel) if job.drawer.done else None

    def _ended(self, cause: str, channel: Channel) -> str:
        """The answer is whole: its end is as good as the end-of-sentence token."""
        self._put(channel, self._job.parser.push(self._job.tokenizer.eos))
        return cause

    def _feed(self, sequence: Sequence, tokens: tuple[int, ...], prompt: bool) -> Reading:
        logits = yield Feed(sequence, tokens, prompt)
        self._read.extend(tokens)
        return logits

    def _put(self, channel: Channel, events: list[Event]) -> None:
        for event in events:
            channel.put(event)

    def _end(self, cause: str, resumed: Resumed, timings: Timings) -> End:
        job, parser = self._job, self._job.parser
        cached = resumed.memory + resumed.disk
        usage = Usage(len(self._prompt), cached, len(self._sampled), parser.reasoning_tokens, resumed.disk)
        detail: dict[str, Any] = {"finish_cause": cause, "cache": resumed.report()}
        if parser.stop_string is not None:
            detail["stop_string"] = parser.stop_string
        if parser.warnings:
            detail["warnings"] = list(parser.warnings)
        if parser.invalid_calls:
            detail["invalid_calls"] = list(parser.invalid_calls)
        if job.traced:
            detail["trace"] = self._trace()
        reason: FinishReason = "length" if cause in LENGTH_CAUSES else parser.finish_reason
        return End(reason, usage, timings, {**job.metadata, **detail})

    def _trace(self) -> dict[str, Any]:
        """What a trace holds of prompt and answer; ids as text, which a trace hides unless told otherwise."""
        prompt = self._job.prompt
        return {
            "prompt_tokens": len(prompt.ids),
            "prompt": " ".join(map(str, prompt.ids)),
            "boundaries": list(prompt.boundaries),
            "replayed_messages": [turn.message for turn in prompt.turns if turn.replayed],
            "output_tokens": len(self._sampled),
            "output": " ".join(map(str, self._sampled)),
        }


@contextmanager
def _released_on_error(sequence: Sequence | None) -> Iterator[None]:
    try:
        yield
    except Exception:  # not GeneratorExit: a cancelled answer's state is kept
        if sequence:
            sequence.release()
        raise


def pieces(position: int, tokens: tuple[int, ...]) -> list[tuple[int, ...]]:
    """`tokens`, to be read from `position` on, cut at page ends, where state is saved."""
    cuts = [0, *range(PAGE_TOKENS - position % PAGE_TOKENS, len(tokens), PAGE_TOKENS), len(tokens)]
    return [tokens[a:b] for a, b in pairwise(cuts)]
