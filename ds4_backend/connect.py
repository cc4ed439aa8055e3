"""From a model's name to an engine, wherever it runs: the one door that front ends use."""

from __future__ import annotations

from collections.abc import Callable

from ds4_backend.engine.engine import Engine
from ds4_backend.engine.running import running

Progress = Callable[[int, int], None]
"""Called with (layers loaded, layers)."""


def connect(
    model: str,
    *,
    address: str | None = None,
    token: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Engine:
    """The engine for `model`, a name from the catalogue or the path of a .gguf file; loads it on the first call.

    The engine is shared: closing it closes it for everybody, and the next `connect` loads afresh. Raises ModelError
    (UnknownModel, NotInstalled, DoesNotFit, FileError) saying what to do.
    """
    return running(model, progress=progress)
