"""Made-up conversations and state for the cache's tests: what a record holds follows from its name, so any process can
tell right from wrong."""

from __future__ import annotations

import os
import random
from pathlib import Path

from ds4_backend.cache import schema
from ds4_backend.cache.files import Files
from ds4_backend.cache.keys import BLOCK_TOKENS, Chain, tail_key
from ds4_backend.cache.load import Loaded
from ds4_backend.cache.records import Use
from ds4_backend.cache.segments import HEAD_BYTES
from ds4_backend.cache.store import Store

MODEL = b"m" * 32
BLOCK_BYTES, TAIL_BYTES = 3_000, 7_000


def some_ids(count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(129_280), k=count)


def content(key: bytes, size: int) -> bytes:
    """What the record of this name holds."""
    return random.Random(key).randbytes(size)


def open_store(folder: Path, **options) -> Store:
    """A small store that writes on `flush`, whatever the disk is like."""
    options = {"max_bytes": 1 << 30, "free_floor": 0, "background": False} | options
    return Store.open(folder, **options)


def put_state(store: Store, chain: Chain, length: int | None = None, use: Use = Use.PROMPT) -> None:
    """Queue all that a resume after `length` tokens needs."""
    length = chain.length if length is None else length
    for index in store.missing(chain, length // BLOCK_TOKENS):
        store.put_block(chain, index, content(chain.keys[index + 1], BLOCK_BYTES))
    store.put_tail(chain, length, content(tail_key(*chain.tail(length)), TAIL_BYTES), use)


def is_right(chain: Chain, loaded: Loaded) -> bool:
    """Whether loaded state is this very chain's."""
    full = loaded.length // BLOCK_TOKENS
    blocks = [bytes(block) for block in loaded.blocks]
    return blocks == [content(key, BLOCK_BYTES) for key in chain.keys[1 : full + 1]] and bytes(loaded.tail) == content(
        tail_key(*chain.tail(loaded.length)), TAIL_BYTES
    )


def resumed(store: Store, chain: Chain, limit: int | None = None) -> int:
    """How many tokens the store gives back; anything but exactly the right bytes fails."""
    hit, loaded = store.resume(chain, limit)
    assert (loaded is None) == (hit.length == 0)
    if loaded:
        assert loaded.length == hit.length
        assert is_right(chain, loaded), "wrong state was loaded"
    store.release(hit)
    return hit.length


class Crash(BaseException):
    """The process dies here."""


class DyingFiles(Files):
    """Files of a process that dies at the chosen step, counted from 0; a write dies half done. `steps` counts."""

    def __init__(self, die_at: int = -1) -> None:
        self.die_at, self.steps = die_at, 0
        self._synced: dict[tuple[int, int], int] = {}
        self._dead = False

    def step(self, name: str) -> None:
        if self._dead:  # no clean-up in a dead process
            raise Crash(name)
        self.steps += 1
        if self.steps - 1 == self.die_at:
            self._dead = True
            raise Crash(name)

    def lose_unsynced(self, folder: Path, safe: dict[str, int]) -> None:
        """What a loss of power may do: segments end where they were last synced, or where they ended at first
        (`safe`)."""
        for path in folder.glob("*.seg"):
            about = path.stat()
            synced = self._synced.get((about.st_dev, about.st_ino), 0)
            os.truncate(path, min(about.st_size, max(synced, safe.get(path.name, 0))))

    def create(self, path):
        self.step("create")
        return super().create(path)

    def write(self, fd, data, offset):
        try:
            self.step("write")
        except Crash:
            super().write(fd, memoryview(data)[: len(data) // 2], offset)
            raise
        super().write(fd, data, offset)

    def sync(self, fd):
        self.step("sync")  # the device itself is not asked: it would only take time
        about = os.fstat(fd)
        self._synced[about.st_dev, about.st_ino] = about.st_size
        self.step("synced")

    def sync_folder(self, path):
        self.step("sync folder")

    def truncate(self, fd, size):
        self.step("truncate")
        super().truncate(fd, size)

    def unlink(self, path):
        self.step("unlink")
        super().unlink(path)

    def rename(self, old, new):
        self.step("rename")
        super().rename(old, new)


def abandon(store: Store) -> None:
    """Let go of what the kernel would take from a dead process: descriptors and locks."""
    for segment in store._writer._active.values():
        segment.close()
    for handle in (store._reads, store._writes):
        handle.close()


def garbage(folder: Path) -> list[str]:
    """Whatever lies in a store's folder that nothing stored needs."""
    store = open_store(folder)
    live = store.ask(lambda _, index: index.live_bytes())
    store.close()
    wrong = [f"{name}: {size:,} with {used:,}" for name, (size, used) in live.items() if size != used + HEAD_BYTES]
    for path in folder.iterdir():
        if path.suffix == ".seg" and path.stat().st_size != live.get(path.name, (0, 0))[0]:
            wrong.append(f"{path.name} has {path.stat().st_size:,} bytes")
        if path.suffix == ".new":
            wrong.append(path.name)
    return wrong + [path.name for path in schema.generations(folder)[:-1]]
