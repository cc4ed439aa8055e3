"""Whose tokens the model reads next: many answers at once, on the model's one thread.

One round is one token for every answer that is being written, in one batched pass, then one chunk of one prompt;
prompts take turns. It knows no text, no sampling and no files.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from ds4_backend.engine.channel import Channel
from ds4_backend.engine.pace import Pace
from ds4_backend.engine.ticket import Feed, Logits, Ticket
from ds4_backend.errors import Busy, DS4Error, EngineError
from ds4_backend.types import Failed

if TYPE_CHECKING:
    from ds4_backend.engine.worker import Worker
    from ds4_backend.model import Model

log = logging.getLogger(__name__)

ACTIVE = 8
"""Answers in progress at once, beside those that wait for their readers. The decode kernels take up to 8 rows; more
would wait for each other anyway."""
WAITING = 64
"""Requests that may wait for one of those places."""


class Scheduler:
    """Runs tickets. `submit`, `cancel` and `close` are for any thread; everything else happens on `worker`.

    `on_idle` runs on the worker whenever nothing is left to do.
    """

    def __init__(
        self,
        model: Model,
        worker: Worker,
        name: str,
        *,
        active: int = ACTIVE,
        waiting: int = WAITING,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self.pace = Pace(model.prefill_tokens)
        self._model, self._worker, self._name, self._on_idle = model, worker, name, on_idle
        self._most, self._longest = active, waiting
        self._changed = threading.Condition()
        self._waiting: list[Ticket] = []  # the next one first
        self._active: list[Ticket] = []  # whose prompt is to be read next, first
        self._looping = self._closed = False

    @property
    def running(self) -> int:
        return len(self._active)

    @property
    def queued(self) -> int:
        return len(self._waiting)

    @property
    def promised(self) -> list[int]:
        """The tokens that each request in progress or waiting may become."""
        with self._changed:
            return [ticket.tokens for ticket in (*self._active, *self._waiting) if not ticket.cancelled]

    @property
    def ending(self) -> bool:
        """Whether all that still runs was cancelled: it ends by itself, after the pass that is being computed."""
        return all(ticket.cancelled for ticket in list(self._active))

    @property
    def idle(self) -> bool:
        return not self._looping

    def submit(self, ticket: Ticket) -> None:
        """Take a request. Raises Busy with the numbers where too many wait, EngineError once closed."""
        ticket.channel = Channel(self._wake)
        with self._changed:
            if self._closed:
                raise EngineError(f"the engine of {self._name} was closed; connect to it again")
            # Together: those that come while the model computes wait, even where places are free.
            if len(self._active) + len(self._waiting) >= self._most + self._longest:
                raise Busy(
                    f"{self._name} answers {len(self._active)} requests and {len(self._waiting)} more wait, as many "
                    "as may; try again later"
                )
            place = next((i for i, other in enumerate(self._waiting) if other.priority < ticket.priority), None)
            self._waiting.insert(len(self._waiting) if place is None else place, ticket)
            self._count()  # the prompt that is being read sizes its next chunk before this one is admitted
            self._changed.notify()
            if not self._looping:
                self._looping = True
                self._worker.submit(self._loop)

    def cancel(self, ticket: Ticket) -> None:
        """Stop a request after the token or chunk that is being computed. Harmless once it is over."""
        with self._changed:
            ticket.cancelled = True
            self._changed.notify()

    def close(self, *, cancel: bool = False) -> None:
        """Take nothing more and fail what waits; what runs goes on to its end, unless `cancel`."""
        with self._changed:
            self._closed = True
            for ticket in self._active if cancel else ():
                ticket.cancelled = True
            self._changed.notify()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    # On the worker ---------------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        try:
            while self._admit():
                self._round()
            self._on_idle()
        except Exception as error:  # a fault of ours; nobody may wait for ever because of it
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        log.error("the scheduler of %s failed", self._name, exc_info=error)
        with self._changed:
            tickets = [*self._active, *self._waiting]
            self._waiting, self._looping = [], False
        for ticket in tickets:
            with suppress(Exception):
                ticket.stop()
            self._fail(ticket, error)

    def _admit(self) -> bool:
        """Drop what was cancelled, start what has waited; false once nothing is left. Sleeps while no one can go on."""
        while True:
            with self._changed:
                gone = [ticket for ticket in (*self._active, *self._waiting) if ticket.cancelled]
                refused = [ticket for ticket in self._waiting if self._closed and not ticket.cancelled]
                new = [] if self._closed else [t for t in self._waiting if t not in gone][: self._free(gone)]
                if not (gone or refused or new):
                    if not self._active:
                        self._looping = False
                        return False
                    if not all(ticket.channel.full for ticket in self._active):
                        return True
                    self._changed.wait()
                    continue
                self._waiting = [t for t in self._waiting if t not in (*gone, *refused, *new)]
                self._active += new
                self._count()
            for ticket in gone:
                self._end(ticket)
            for ticket in refused:
                self._fail(ticket, EngineError(f"the engine of {self._name} was closed; connect to it again"))
            for ticket in new:
                self._advance(ticket, None)

    def _free(self, gone: list[Ticket]) -> int:
        """Places that are free. One whose reader has fallen behind, in a stopped terminal, say, takes none until that
        reads on; then there may be more answers than places."""
        taken = [one for one in self._active if one not in gone and not one.channel.full]
        return max(0, self._most - len(taken))

    def _round(self) -> None:
        """One token for everyone who writes, the tokens that a grammar forces, one chunk of one prompt."""
        ready = [ticket for ticket in self._active if not ticket.channel.full]
        answers = [ticket for ticket in ready if ticket.feed and not ticket.feed.prompt]
        single = [ticket for ticket in answers if len(_fed(ticket).tokens) == 1]
        for first in range(0, len(single), self._most):
            self._forward(single[first : first + self._most])
        self._forward([ticket for ticket in answers if len(_fed(ticket).tokens) > 1])
        prompts = [ticket for ticket in ready if ticket.feed and ticket.feed.prompt and ticket not in answers]
        if prompts:
            chosen = max(prompts, key=lambda ticket: ticket.priority)  # of equals the one that waits longest
            with self._changed:
                self._active.remove(chosen)
                self._active.append(chosen)
            self._forward([chosen])

    def _forward(self, tickets: list[Ticket]) -> None:
        if not tickets:
            return
        feeds = [_fed(ticket) for ticket in tickets]
        start = time.perf_counter()
        try:
            rows = self._model.forward([(feed.sequence, feed.tokens) for feed in feeds])
        except Exception as error:
            for ticket in tickets:
                self._throw(ticket, error)
            return
        count, seconds = sum(len(feed.tokens) for feed in feeds), time.perf_counter() - start
        (self.pace.read if feeds[0].prompt else self.pace.wrote)(count, seconds)
        for ticket, logits in zip(tickets, rows, strict=True):
            self._advance(ticket, logits)

    def _advance(self, ticket: Ticket, logits: Logits | None) -> None:
        try:
            ticket.advance(logits)
        except StopIteration:
            self._leave(ticket)
        except Exception as error:
            self._fail(ticket, error)

    def _throw(self, ticket: Ticket, error: Exception) -> None:
        """The pass itself failed: the answer's own state is in doubt, and it must let go of it."""
        try:
            ticket.throw(error)
        except StopIteration:
            self._leave(ticket)
        except Exception as raised:
            self._fail(ticket, raised)

    def _end(self, ticket: Ticket) -> None:
        try:
            ticket.stop()
        except Exception as error:
            log.exception("saving a cancelled answer of %s failed", self._name, exc_info=error)
        self._leave(ticket)

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        if not isinstance(error, DS4Error):
            log.error("the engine of %s failed", self._name, exc_info=error)
            failure = EngineError(f"the engine of {self._name} failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            error = failure
        ticket.channel.put(Failed(error))
        self._leave(ticket)

    def _leave(self, ticket: Ticket) -> None:
        with self._changed:
            if ticket in self._active:
                self._active.remove(ticket)
            self._count()
        ticket.over.set()

    def _count(self) -> None:
        self.pace.crowded = len(self._active) + len(self._waiting) > 1


def _fed(ticket: Ticket) -> Feed:
    assert ticket.feed is not None
    return ticket.feed
