"""The models that the host holds: each loaded once, used by many, unloaded when nobody has asked for a while.

Everything here runs on the host's event loop, so nothing is locked but loading and closing, which take threads of
their own, one after the other. It knows no socket and no request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ds4_backend.engine.engine import Engine
from ds4_backend.engine.running import LARGE_FILE, MakeRoom, Progress, check_memory, running
from ds4_backend.errors import DoesNotFit, HostError
from ds4_backend.machine import gib

log = logging.getLogger(__name__)
Load = Callable[[str, Progress, MakeRoom], Engine]
"""From a model's path or name to its engine; called on a thread."""


@dataclass(eq=False)
class Resident:
    """One model here. `users` counts the requests that need it now; `keep` is the seconds it stays once they are gone,
    negative for ever; a `pinned` one stays too, unless another model needs its room. `idle_since` is on the monotonic
    clock."""

    model: str
    keep: float
    users: int = 0
    pinned: bool = False
    done: int = 0
    total: int = 0
    nbytes: int = 0
    idle_since: float = field(default_factory=time.monotonic)
    loading: asyncio.Task[Engine] | None = None

    @property
    def name(self) -> str:
        """The model as people call it."""
        return Path(self.model).stem if self.model.endswith(".gguf") else self.model

    @property
    def engine(self) -> Engine | None:
        """The engine, once it is loaded."""
        task = self.loading
        loaded = task is not None and task.done() and not task.cancelled() and task.exception() is None
        return task.result() if task and loaded else None

    def expired(self, now: float) -> bool:
        """Whether nobody needs it any more."""
        stays = self.users or self.pinned or self.engine is None
        return not stays and 0 <= self.keep <= now - self.idle_since


def load_running(model: str, progress: Progress, make_room: MakeRoom) -> Engine:
    """The engine of this process for `model`."""
    return running(model, progress=progress, make_room=make_room)


class Residents:
    """All of them. `keep_alive` is how long each stays without users, in seconds, unless a request says otherwise."""

    def __init__(self, keep_alive: float, load: Load = load_running) -> None:
        self.keep_alive = keep_alive
        self._load = load
        self._all: dict[str, Resident] = {}
        self._busy = asyncio.Lock()  # held while a model is loaded or closed
        self._tasks: set[asyncio.Task[None]] = set()
        self.empty_since = time.monotonic()

    def enter(self, model: str) -> Resident:
        """One more user of `model`, whose loading begins if it is not here. Each `enter` needs its `leave`."""
        resident = self._all.get(model)
        if resident is None:
            resident = self._all[model] = Resident(model, self.keep_alive)
            resident.loading = asyncio.create_task(self._loaded(resident))
            resident.loading.add_done_callback(_seen)  # those who wait for it may all have left
        resident.users += 1
        return resident

    def leave(self, resident: Resident, keep_alive: float | None = None) -> None:
        """One user less. From now on the model stays for `keep_alive` seconds; None leaves that as it was."""
        resident.users -= 1
        resident.idle_since = time.monotonic()
        resident.keep = resident.keep if keep_alive is None else keep_alive
        if resident.expired(resident.idle_since):
            self._later(self._drop([resident]))

    async def pin(self, model: str, progress: Progress) -> None:
        """Load `model`, if it is not here, and keep it. Raises what loading does."""
        resident = self.enter(model)
        try:
            assert resident.loading is not None
            while not resident.loading.done():
                progress(resident.done, resident.total)
                await asyncio.wait({resident.loading}, timeout=0.1)
            await resident.loading
            progress(resident.done, resident.total)
            resident.pinned = True
        finally:
            self.leave(resident)

    async def sweep(self) -> None:
        """Unload what nobody has needed for long enough."""
        now = time.monotonic()
        await self._drop([resident for resident in self._all.values() if resident.expired(now)])

    async def unload(self, model: str | None) -> list[str]:
        """Unload `model`, or every model; returns their names. Raises HostError for one that is needed now."""
        chosen = [one for one in self._all.values() if model in (None, one.model, one.name)]
        for resident in chosen:
            if resident.users or resident.engine is None:
                raise HostError(f"{resident.name} has {resident.users} requests in progress; it stays loaded")
        await self._drop(chosen)
        return [resident.name for resident in chosen]

    async def close(self) -> None:
        """Close every engine, so that what their caches still have to write is written."""
        for resident in list(self._all.values()):
            if resident.loading and not resident.loading.done():
                await asyncio.wait({resident.loading})
        await self._drop(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    async def status(self) -> list[dict[str, Any]]:
        """Each model, for people to read: what its engine says, and how the host sees it."""
        return [await self._told(resident) for resident in list(self._all.values())]

    async def _told(self, resident: Resident) -> dict[str, Any]:
        now, engine = time.monotonic(), resident.engine
        said: Mapping[str, Any] = await asyncio.to_thread(engine.status) if engine else {"model": resident.name}
        idle = None if resident.users or engine is None else round(now - resident.idle_since, 1)
        stays = idle is None or resident.pinned or resident.keep < 0
        leaves = None if stays or idle is None else round(resident.keep - idle, 1)
        return {
            **said,
            "file": resident.model,
            "weights_bytes": resident.nbytes,
            "state": "loaded" if engine else "loading",
            "loading": None if engine else [resident.done, resident.total],
            "requests": resident.users,
            "idle_seconds": idle,
            "unloads_in_seconds": leaves,
        }

    async def _loaded(self, resident: Resident) -> Engine:
        loop = asyncio.get_running_loop()

        def progress(done: int, total: int) -> None:
            resident.done, resident.total = done, total

        def make_room(nbytes: int, name: str) -> None:  # on the loading thread
            asyncio.run_coroutine_threadsafe(self._make_room(resident, nbytes, name), loop).result()

        try:
            async with self._busy:
                started = time.monotonic()
                engine = await asyncio.to_thread(self._load, resident.model, progress, make_room)
        except BaseException as error:
            log.warning("%s was not loaded: %s", resident.name, error)
            self._forget(resident)
            raise
        log.info("loaded %s in %.1f s", resident.name, time.monotonic() - started)
        resident.idle_since = time.monotonic()
        return engine

    async def _make_room(self, resident: Resident, nbytes: int, name: str) -> None:
        """Unload idle models, the longest idle first, until `nbytes` fit; `_busy` is held. Raises DoesNotFit."""
        resident.nbytes = nbytes
        while True:
            try:
                return check_memory(nbytes, name, held=self._held(resident))
            except DoesNotFit as error:
                idle = [one for one in self._all.values() if not one.users and one.engine and one.nbytes >= LARGE_FILE]
                if not idle:
                    raise self._no_room(resident, error) from error
                await self._close(min(idle, key=lambda one: one.idle_since))

    def _no_room(self, resident: Resident, error: DoesNotFit) -> DoesNotFit:
        used = [one for one in self._all.values() if one is not resident and one.nbytes >= LARGE_FILE]
        if not used:
            return error
        told = ", ".join(f"{one.name} ({gib(one.nbytes)}, {one.users} requests)" for one in used)
        return DoesNotFit(f"{error}. Now in use: {told}; ask again when it is idle")

    def _held(self, but: Resident) -> int:
        return sum(one.nbytes for one in self._all.values() if one is not but and one.nbytes >= LARGE_FILE)

    async def _drop(self, residents: list[Resident]) -> None:
        """Unload those of `residents` that nobody has come to need meanwhile."""
        if not residents:
            return
        async with self._busy:
            for resident in residents:
                if not resident.users and self._all.get(resident.model) is resident:
                    await self._close(resident)

    async def _close(self, resident: Resident) -> None:
        engine = resident.engine
        self._forget(resident)
        if engine is None:
            return
        try:
            await asyncio.to_thread(engine.close)
            log.info("unloaded %s", resident.name)
        except Exception:  # its memory is gone from here either way, and others are still to be closed
            log.exception("%s was not closed well", resident.name)

    def _forget(self, resident: Resident) -> None:
        if self._all.get(resident.model) is resident:
            del self._all[resident.model]
        self.empty_since = time.monotonic()

    def _later(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)


def _seen(task: asyncio.Task[Engine]) -> None:
    if not task.cancelled():
        task.exception()
