"""One answer, from a tokenised prompt to its end: prefill, decode, stop.

It owns one sequence while it runs. It knows nothing of locks, files or front ends.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ds4_backend.chat.replay import Encoded, record_of
from ds4_backend.engine.disk import Resumed
from ds4_backend.engine.sampler import Sampler
from ds4_backend.types import End, Event, FinishReason, Progress, Timings, Usage

if TYPE_CHECKING:
    from ds4_backend.chat import Parser
    from ds4_backend.engine.disk import DiskCache
    from ds4_backend.engine.kept import KeptSequences
    from ds4_backend.engine.turns import Turns
    from ds4_backend.model import Model, Sequence
    from ds4_backend.tokenizer import Tokenizer

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Job:
    """A request made ready: its prompt, how to read and draw the answer, when to stop.

    `budget` is the most tokens that may be generated, `budget_cause` what set it: `max_tokens` or `context`.
    """

    prompt: Encoded
    parser: Parser
    sampler: Sampler
    budget: int
    budget_cause: str
    tokenizer: Tokenizer
    metadata: dict[str, Any]
    private: bool = False
    asked_at: float = field(default_factory=time.perf_counter)


class Generation:
    """Runs one `Job` on a model. `disk` is None where nothing is kept on disk."""

    def __init__(self, model: Model, job: Job, kept: KeptSequences, turns: Turns, disk: DiskCache | None) -> None:
        self._model, self._job, self._kept, self._turns = model, job, kept, turns
        self._disk = None if job.private else disk
        self._recorder = self._disk and self._disk.recorder(job.prompt)
        self._prompt = job.prompt.ids
        self._read: list[int] = []  # ids that the sequence has been through
        self._sampled: list[int] = []  # without the end-of-sentence token

    def events(self) -> Generator[Event, None, End]:
        """The events but for the last; returns the `End`.

        The sequence is kept when the answer ends or the generator is closed, and the turn is remembered for replay;
        after an error the sequence is released.
        """
        start = time.perf_counter()
        sequence, resumed = self._resume()
        cached = sequence.length
        self._read.extend(self._prompt[:cached])
        begun = time.perf_counter()
        try:
            logits = yield from self._prefill(sequence)
            first = time.perf_counter()
            cause = yield from self._decode(sequence, logits)
            last = time.perf_counter()
        except GeneratorExit:
            self._keep(sequence)
            raise
        except BaseException:
            sequence.release()
            raise
        finally:
            if self._disk:
                self._disk.release(resumed)
        if self._disk:
            self._disk.timed(resumed, len(self._prompt) - cached, first - begun)
        self._keep(sequence)
        return self._end(cause, resumed, Timings(first - start, last - first, first - self._job.asked_at))

    def _resume(self) -> tuple[Sequence, Resumed]:
        """The longest state of the prompt that memory or disk holds, as a sequence to go on with."""
        sequence = self._kept.resume(self._prompt)
        held = sequence.length if sequence else 0
        resumed = self._disk.resume(self._prompt, held) if self._disk else Resumed(None, memory=held)
        if resumed.sequence is not None:
            if sequence:
                sequence.release()
            sequence = resumed.sequence
        return sequence or self._model.new_sequence(), resumed

    def _keep(self, sequence: Sequence) -> None:
        job = self._job
        if record := record_of(job.prompt, self._sampled, job.parser, job.tokenizer):
            self._turns.add(record, job.prompt.parent, private=job.private)
        if self._recorder:
            self._recorder.finish(sequence)
        if self._read:
            self._kept.add(tuple(self._read), sequence)
        else:
            sequence.release()

    def _prefill(self, sequence: Sequence) -> Generator[Event, None, Logits]:
        """Read the prompt; returns the logits [V] after it."""
        prompt, cached = self._prompt, sequence.length
        yield Progress(cached, len(prompt), cached)
        for stop in chunk_ends(cached, len(prompt), self._model.prefill_tokens):
            logits = self._forward(sequence, prompt[len(self._read) : stop])
            if self._recorder:
                self._recorder.passed(sequence)
            if stop == len(prompt) - 1:
                # The last token opens the answer (`<think>` or `</think>`), and the next turn may open it differently.
                self._kept.add(prompt[:stop], sequence.fork())
            else:
                yield Progress(stop, len(prompt), cached)
        return logits

    def _decode(self, sequence: Sequence, logits: Logits) -> Generator[Event, None, str]:
        """Draw tokens until something ends the answer; returns what did."""
        job, parser = self._job, self._job.parser
        while (token := job.sampler.pick(logits)) != job.tokenizer.eos:
            self._sampled.append(token)
            yield from parser.push(token)
            if parser.done:
                return "stop_string" if parser.stop_string is not None else "tool_calls"
            if len(self._sampled) >= job.budget:
                yield from parser.finish()
                return job.budget_cause if parser.stop_string is None else "stop_string"
            logits = self._forward(sequence, (token,))
            if self._recorder:
                self._recorder.passed(sequence, token)
        yield from parser.finish()
        return "eos" if parser.stop_string is None else "stop_string"

    def _forward(self, sequence: Sequence, tokens: tuple[int, ...]) -> Logits:
        logits = self._model.forward([(sequence, tokens)])[0]
        self._read.extend(tokens)
        return logits

    def _end(self, cause: str, resumed: Resumed, timings: Timings) -> End:
        job, parser = self._job, self._job.parser
        cached = resumed.memory + resumed.disk
        usage = Usage(len(self._prompt), cached, len(self._sampled), parser.reasoning_tokens)
        detail: dict[str, Any] = {"finish_cause": cause, "cache": resumed.report()}
        if parser.stop_string is not None:
            detail["stop_string"] = parser.stop_string
        if parser.malformed:
            detail["tool_parse_error"] = True
        reason: FinishReason = "length" if cause in ("max_tokens", "context") else parser.finish_reason
        return End(reason, usage, timings, {**job.metadata, **detail})


def chunk_ends(start: int, end: int, chunk: int) -> list[int]:
    """Where prefill chunks of a prompt end: multiples of `chunk`, one token before the end, and the end.

    The grid starts at position 0, so that a resumed prompt is cut where a fresh one is.
    """
    grid = range((start // chunk + 1) * chunk, end, chunk)
    return sorted({*grid, end - 1, end} - set(range(start + 1)))
