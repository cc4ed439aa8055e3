"""What a person asks of the store: `cache stats`, `ls`, `verify`, `gc`, `purge`. Each raises EngineError where it
fails, because a purge that failed silently would be a lie.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from ds4_backend.cache import purge as purging
from ds4_backend.cache import report, tidy
from ds4_backend.cache.purge import Purged
from ds4_backend.cache.report import Entry, Stats, Verified
from ds4_backend.cache.store import Store


def stats(store: Store) -> Stats:
    """Sizes and counters."""
    return store.ask(lambda writer, index: report.stats(index, writer.folder, writer.budget, time.time()))


def entries(store: Store) -> tuple[Entry, ...]:
    """The conversations held, the last used first."""
    return store.ask(lambda _, index: report.entries(index))


def verify(store: Store) -> Verified:
    """Read everything; bad records are set aside and no longer count as stored."""
    return store.ask(lambda writer, index: report.verify(index, writer.folder, writer.files, time.time()))


def gc(store: Store) -> int:
    """Remove what no stored record needs; the bytes given back."""
    return store.ask(lambda writer, index: tidy.collect(writer, index))


def purge(
    store: Store,
    *,
    unused_for: float | None = None,
    fingerprint: bytes | None = None,
    ids: Sequence[Sequence[int]] = (),
    text: str = "",
) -> Purged:
    """Forget for good: what was unused for so many seconds, one model's state, or all that holds one of these rows of
    token ids or, in a turn's note, this text. Everything where nothing is named."""
    store.forget_queued()
    target = purging.Target(unused_for, fingerprint, ids, text)
    return store.ask(lambda writer, index: purging.purge(writer, index, target))
