"""A progress bar on stderr for the long commands. It knows nothing of what is being done.

Long work takes a `Report` and calls it with (done, total) as often as it likes; a front end that wants no bar passes
`silent`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

Report = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Reports nothing."""


@contextmanager
def bar(label: str, *, unit: str = "B", stream: TextIO | None = None) -> Iterator[Report]:
    """Yields a `Report` that draws one bar; `unit` "B" counts in KiB, MiB and so on.

    The first report sets the starting point, so that resumed work shows an honest speed. Where `stream` is no
    terminal, a line is written every 30 seconds at most.
    """
    from tqdm import tqdm

    stream = stream or sys.stderr
    pause = 0.1 if stream.isatty() else 30.0
    shown: Any = None

    def report(done: int, total: int) -> None:
        nonlocal shown
        if shown is None:
            options = {"unit_scale": True, "unit_divisor": 1024} if unit == "B" else {}
            shown = tqdm(
                total=total, initial=done, desc=label, unit=unit, file=stream, mininterval=pause, leave=True, **options
            )
        shown.total = total
        shown.update(done - shown.n)

    try:
        yield report
    finally:
        if shown is not None:
            shown.close()
