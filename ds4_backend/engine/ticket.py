"""One request's way through the scheduler: a generator that yields what it wants read and is sent the logits.

It knows no other request, no text and no sampling.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ds4_backend.engine.channel import Channel
from ds4_backend.types import Progress

if TYPE_CHECKING:
    from ds4_backend.model import Sequence

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Feed:
    """What an answer wants read next. `prompt` says that it is a chunk of a prompt, not of the answer."""

    sequence: Sequence
    tokens: tuple[int, ...]
    prompt: bool


Steps = Generator[Feed, Logits, None]
"""Yields feeds, is sent the logits [V] after each; closing it saves what was computed."""


class Ticket:
    """One request from its submission to its last event."""

    def __init__(
        self, steps: Callable[[Channel], Steps], now: Callable[[], Progress], priority: int = 0, tokens: int = 0
    ) -> None:
        self.now = now
        """How far it is, for a reader that hears nothing."""
        self.priority = priority
        self.tokens = tokens
        """What its conversation may become."""
        self.over = threading.Event()
        self.cancelled = False
        self.channel = Channel()
        self._make = steps
        self._steps: Steps | None = None
        self.feed: Feed | None = None

    def advance(self, logits: Logits | None) -> None:
        """Go on to the next feed; raises StopIteration after the last one."""
        if self._steps is None:
            self._steps = self._make(self.channel)
        self.feed = self._steps.send(logits)  # type: ignore[arg-type]  # the first send must be None

    def throw(self, error: Exception) -> None:
        """The feed could not be read. Raises as `advance`, or the error itself."""
        assert self._steps is not None
        self.feed = self._steps.throw(error)

    def stop(self) -> None:
        """End the answer where it is; what was computed is saved."""
        if self._steps is not None:
            self._steps.close()
