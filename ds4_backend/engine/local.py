"""The engine that runs the model in this process.

It knows how a request becomes a `Job`, and hands it to the scheduler; the work itself is in generation.py. It knows no
catalogue and no files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ds4_backend.chat import Parser, Rendered, render
from ds4_backend.chat.conversation import countable
from ds4_backend.chat.replay import Encoded, encode_with_replay
from ds4_backend.engine.constraint import may_call
from ds4_backend.engine.counters import Counters
from ds4_backend.engine.defaults import REFERENCE
from ds4_backend.engine.draw import drawer_for
from ds4_backend.engine.engine import Engine, Events
from ds4_backend.engine.generation import Generation, Job, Shelf
from ds4_backend.engine.kept import KEPT, KeptSequences
from ds4_backend.engine.room import Room, most_tokens
from ds4_backend.engine.scheduler import ACTIVE, WAITING, Scheduler
from ds4_backend.engine.ticket import Ticket
from ds4_backend.engine.turns import StoredTurns, Turns
from ds4_backend.engine.worker import Worker
from ds4_backend.errors import ContextOverflow, EngineError, RequestError
from ds4_backend.types import End, Event, Failed, Request, Sampling

if TYPE_CHECKING:
    from ds4_backend.engine.disk import DiskCache
    from ds4_backend.model import Model
    from ds4_backend.tokenizer import Tokenizer

QUIET_SECONDS = 0.5
"""How long a reader hears nothing before a `Progress` says that its request is alive."""


class LocalEngine(Engine):
    """Answers from a loaded model, several requests at once.

    `name` is what the caller calls the model. `context` limits prompt plus answer, in tokens; None is what the file
    allows. `answer` limits an answer whose request does not say; None is the context. `kept` sequences stay in memory
    for requests that go on from them, and `disk` keeps state beyond that. At most `active` answers are made at once,
    and `waiting` more may queue. All work is done on `worker`, the one that loaded the model. `on_close` runs once,
    when the engine is closed; a model that the engine owns is then released, too, once nothing runs.
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
        answer: int | None = None,
        kept: int = KEPT,
        disk: DiskCache | None = None,
        worker: Worker | None = None,
        active: int = ACTIVE,
        waiting: int = WAITING,
        room: Room | None = None,
        owns_model: bool = False,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.model, self.tokenizer, self._dialect = model, tokenizer, dialect
        self._name, self._defaults, self._on_close = name, defaults, on_close
        self.context = min(context or model.geometry.context_length, model.geometry.context_length)
        self._answer = answer or self.context
        turns = StoredTurns(disk.store, disk.fingerprint, tokenizer) if disk else Turns()
        self._shelf = Shelf(KeptSequences(kept), turns, disk, room)
        self._room = room
        self._counters = Counters()
        self._worker = worker or Worker(name)
        self._scheduler = Scheduler(model, self._worker, name, active=active, waiting=waiting, on_idle=self._sweep)
        self._closed = self._released = False
        self.traced = False  # whether `End.metadata["trace"]` holds the prompt's and the answer's tokens
        self._owns_model = owns_model

    def chat(self, request: Request) -> Events:
        """See `Engine.chat`. Raises ContextOverflow, or DoesNotFit, with the numbers, where the request does not fit;
        Busy at the first `next` where too many wait.

        Whenever nothing is heard for half a second, a `Progress` says how far it is.
        """
        return self._run(self._generation(request), request)

    async def achat(self, request: Request) -> AsyncGenerator[Event, None]:
        """See `Engine.achat`."""
        ticket = self._submitted(await asyncio.to_thread(self._generation, request), request)
        try:
            while True:
                event = await ticket.channel.aget(QUIET_SECONDS) or ticket.now()
                if isinstance(event, End | Failed):
                    break
                yield event
        finally:
            self._scheduler.cancel(ticket)
        await asyncio.to_thread(ticket.over.wait)
        self._counters.count(event)
        yield event

    @property
    def prefill_tokens(self) -> int:
        """Prompt tokens that are read at once while nobody else waits."""
        return self.model.prefill_tokens

    def count_tokens(self, request: Request) -> int:
        """See `Engine.count_tokens`."""
        request = countable(request)
        return len(self._encode(render(request, self._dialect), request).ids)

    def status(self) -> Mapping[str, Any]:
        """Model, dialect, context in tokens; answers in progress and requests that wait; lengths of the kept
        sequences; tokens per second; bytes of state in memory; what was counted since the start."""
        pace = self._scheduler.pace
        return {
            "model": self._name,
            "dialect": self._dialect,
            "context": self.context,
            "busy": not self._scheduler.idle,
            "running": self._scheduler.running,
            "queued": self._scheduler.queued,
            "kept_tokens": list(self._shelf.kept.tokens()),
            "prefill_tokens_per_second": round(pace.prefill_per_second, 1),
            "decode_tokens_per_second": round(pace.decode_per_second, 1),
            "state_bytes": self._pools(),
            **self._counters.report(),
        }

    def close(self, *, cancel: bool = False) -> None:
        """Release every sequence, those of answers in progress when they end, at once if `cancel`. Comes back once that
        is done, unless an answer is still wanted. Closing twice is harmless."""
        if not self._closed:
            self._closed = True
            self._scheduler.close(cancel=cancel)
            self._on_close()
        elif cancel:
            self._scheduler.close(cancel=True)
        if self._scheduler.ending:  # also where its loop is still on its way out
            self._settle()

    @property
    def released(self) -> bool:
        """Whether it was closed and holds nothing any more."""
        return self._released

    def _settle(self) -> None:
        """Wait until the model's thread has released everything."""
        try:
            self._worker.submit(self._sweep).result()
        except RuntimeError:  # the thread has ended: it had nothing left to release
            return

    def _sweep(self) -> None:
        """On the model's thread, when nothing runs: once closed, release everything."""
        if self._closed and not self._released and not self._scheduler.running:
            self._released = True
            with ExitStack() as last:  # the memory is given back even where the disk fails
                last.callback(self._worker.close)
                if self._owns_model:
                    last.callback(self.model.release)
                self._shelf.kept.clear()
                if self._shelf.disk:
                    self._shelf.disk.close()

    def _run(self, generation: Generation, request: Request) -> Events:
        ticket = self._submitted(generation, request)
        try:
            while True:
                event = ticket.channel.get(QUIET_SECONDS) or ticket.now()
                if isinstance(event, End | Failed):
                    break
                yield event
        finally:
            self._scheduler.cancel(ticket)
            if not self._worker.here:  # the garbage collector may close this anywhere, on the thread that computes too
                ticket.over.wait()
        self._counters.count(event)
        yield event

    def _generation(self, request: Request) -> Generation:
        if self._closed:
            raise EngineError(f"the engine of {self._name} was closed; connect to it again")
        job = self._job(request)
        if self._room:
            self._room.check(len(job.prompt.ids), request.max_tokens, self._scheduler.promised, self._pools())
        return Generation(self.model, job, self._shelf, self._scheduler.pace)

    def _submitted(self, generation: Generation, request: Request) -> Ticket:
        tokens = most_tokens(generation.now().total, request.max_tokens)
        ticket = Ticket(generation.steps, generation.now, request.priority, tokens)
        self._scheduler.submit(ticket)
        return ticket

    def _pools(self) -> int:
        """Bytes that the conversations' state has taken."""
        state = getattr(self.model, "state", None)  # none after its release
        return state.nbytes if state is not None else 0

    def _encode(self, rendered: Rendered, request: Request) -> Encoded:
        return encode_with_replay(rendered, request.messages, self.tokenizer, self._shelf.turns.find)

    def _job(self, request: Request) -> Job:
        if request.max_tokens is not None and request.max_tokens < 0:
            raise RequestError(f"max_tokens is {request.max_tokens}; it must be at least 0")
        rendered = render(request, self._dialect)
        prompt = self._encode(rendered, request)
        budget, cause = self._budget(len(prompt.ids), request.max_tokens)
        drawer = drawer_for(request, rendered.thinking, self.tokenizer, self._defaults, budget=budget)
        limits = drawer.thinking
        return Job(
            prompt=prompt,
            parser=Parser(self.tokenizer, rendered.thinking, request.stop, request.tools if may_call(request) else ()),
            drawer=drawer,
            budget=budget,
            budget_cause=cause,
            tokenizer=self.tokenizer,
            private=request.private,
            traced=self.traced,
            metadata={
                "model": self._name,
                "dialect": self._dialect,
                "thinking": rendered.thinking,
                "effort": rendered.effort,
                "temperature": drawer.settings.temperature,
                "seed": drawer.settings.seed,
                **({"thinking_closes_at": [limits.opens_at, limits.closes_at]} if limits else {}),
                **({"loosely_held_tools": list(drawer.loose)} if drawer.loose else {}),
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
            return (left, "context") if left <= self._answer else (self._answer, "max_tokens")
        if max_tokens > left:
            raise ContextOverflow(
                f"the prompt has {prompt:,} tokens and max_tokens is {max_tokens:,}, together {prompt + max_tokens:,}; "
                f"the context of {self._name} is {self.context:,}: ask for {left:,} or fewer, or shorten the prompt"
            )
        return max_tokens, "max_tokens"
