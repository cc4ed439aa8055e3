"""The engine that runs the model in this process, one answer at a time.

It knows how a request becomes a `Job`, and whose turn it is; the work itself is in generation.py. It knows no catalogue
and no files.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

from ds4_backend.chat import Parser, Rendered, render
from ds4_backend.chat.replay import Encoded, encode_with_replay
from ds4_backend.engine.defaults import REFERENCE
from ds4_backend.engine.engine import Engine, Events
from ds4_backend.engine.generation import Generation, Job
from ds4_backend.engine.kept import KEPT, KeptSequences
from ds4_backend.engine.sampler import Sampler
from ds4_backend.engine.turns import StoredTurns, Turns
from ds4_backend.engine.worker import Worker
from ds4_backend.errors import ContextOverflow, DS4Error, EngineError, RequestError
from ds4_backend.types import End, Event, Failed, Progress, Request, Sampling

if TYPE_CHECKING:
    from ds4_backend.engine.disk import DiskCache
    from ds4_backend.model import Model
    from ds4_backend.tokenizer import Tokenizer

log = logging.getLogger(__name__)
WAIT_SECONDS = 0.5
"""How often a request that waits for another one shows that it is alive (and can be cancelled)."""


class LocalEngine(Engine):
    """Answers from a loaded model.

    `name` is what the caller calls the model. `context` limits prompt plus answer, in tokens; None is what the file
    allows. `kept` sequences stay in memory for requests that go on from them, and `disk` keeps state beyond that. All
    work is done on `worker`, the one that loaded the model. `on_close` runs once, at the end.
    """

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        dialect: str,
        *,
        name: str,
        defaults: Sampling = REFERENCE,
        context: int | None = None,
        kept: int = KEPT,
        disk: DiskCache | None = None,
        worker: Worker | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._model, self._tokenizer, self._dialect = model, tokenizer, dialect
        self._name, self._defaults, self._on_close = name, defaults, on_close
        self.context = min(context or model.geometry.context_length, model.geometry.context_length)
        self._kept = KeptSequences(kept)
        self._disk = disk
        self._turns = StoredTurns(disk.store, disk.fingerprint, tokenizer) if disk else Turns()
        self._worker = worker or Worker(name)
        self._turn = threading.Lock()
        self._closed = self._released = False

    def chat(self, request: Request) -> Events:
        """See `Engine.chat`. Raises ContextOverflow with the numbers where the prompt or the answer does not fit.

        While another answer is being made, it waits, and yields a `Progress` that stands still.
        """
        self._check_open()
        return self._run(self._job(request))

    def count_tokens(self, request: Request) -> int:
        """See `Engine.count_tokens`."""
        return len(self._encode(render(request, self._dialect), request).ids)

    def status(self) -> Mapping[str, Any]:
        """Model, dialect, context in tokens, whether an answer is being made, lengths of the kept sequences."""
        return {
            "model": self._name,
            "dialect": self._dialect,
            "context": self.context,
            "busy": self._turn.locked(),
            "kept_tokens": list(self._kept.tokens()),
        }

    def close(self) -> None:
        """Release every sequence, those of an answer in progress when it ends. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        self._sweep()
        self._on_close()

    def _sweep(self) -> None:
        """Once closed: release everything, unless an answer is being made, which then does it at its end."""
        if self._closed and self._turn.acquire(blocking=False):
            if not self._released:
                self._released = True
                self._worker.close(self._kept.clear)
                if self._disk:
                    self._disk.close()
            self._turn.release()

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError(f"the engine of {self._name} was closed; connect to it again")

    def _run(self, job: Job) -> Events:
        while not self._turn.acquire(timeout=WAIT_SECONDS):
            yield Progress(0, len(job.prompt.ids))
        generation = Generation(self._model, job, self._kept, self._turns, self._disk)
        try:
            last: Event = yield from self._guarded(self._worker.each(generation.events()))
        finally:
            self._turn.release()
            self._sweep()
        yield last

    def _guarded(self, events: Generator[Event, None, End]) -> Generator[Event, None, End | Failed]:
        """The events; what they return, or `Failed` where they raise."""
        try:
            self._check_open()
            return (yield from events)
        except DS4Error as error:
            return Failed(error)
        except Exception as error:
            log.exception("the engine of %s failed", self._name)
            failure = EngineError(f"the engine of {self._name} failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            return Failed(failure)

    def _encode(self, rendered: Rendered, request: Request) -> Encoded:
        return encode_with_replay(rendered, request.messages, self._tokenizer, self._turns.find)

    def _job(self, request: Request) -> Job:
        if request.max_tokens is not None and request.max_tokens < 1:
            raise RequestError(f"max_tokens is {request.max_tokens}; it must be at least 1")
        sampler = Sampler(request.sampling, self._defaults)
        rendered = render(request, self._dialect)
        prompt = self._encode(rendered, request)
        budget, cause = self._budget(len(prompt.ids), request.max_tokens)
        return Job(
            prompt=prompt,
            parser=Parser(self._tokenizer, rendered.thinking, request.stop),
            sampler=sampler,
            budget=budget,
            budget_cause=cause,
            tokenizer=self._tokenizer,
            private=request.private,
            metadata={
                "model": self._name,
                "dialect": self._dialect,
                "thinking": rendered.thinking,
                "effort": rendered.effort,
                "temperature": sampler.settings.temperature,
                "seed": sampler.settings.seed,
            },
        )

    def _budget(self, prompt: int, max_tokens: int | None) -> tuple[int, str]:
        """The most tokens that may be generated, and what limits them."""
        left = self.context - prompt
        if left < 1:
            raise ContextOverflow(
                f"the prompt has {prompt:,} tokens and the context of {self._name} is {self.context:,}: it cannot be "
                "answered there; shorten the conversation"
            )
        if max_tokens is None:
            return left, "context"
        if max_tokens > left:
            raise ContextOverflow(
                f"the prompt has {prompt:,} tokens and max_tokens is {max_tokens:,}, together {prompt + max_tokens:,}; "
                f"the context of {self._name} is {self.context:,}: ask for {left:,} or fewer, or shorten the prompt"
            )
        return max_tokens, "max_tokens"
