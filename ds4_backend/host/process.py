"""The host's process: takes its place, serves until it is stopped or has been idle for long, leaves nothing behind.

It knows the event loop, signals and sockets; what is answered is the service's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from filelock import FileLock, Timeout

import ds4_backend
from ds4_backend import __version__
from ds4_backend.errors import HostError
from ds4_backend.host.peers import listen
from ds4_backend.host.place import Place, place_of
from ds4_backend.host.residents import Load, Residents, load_running
from ds4_backend.host.server import open_app, owner_app
from ds4_backend.host.service import Service, Wrap, finished, resolved

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from ds4_backend.settings import Settings

log = logging.getLogger(__name__)
GRACE_SECONDS = 10.0
"""How long a stop waits for the answers in progress, unless it says so itself."""
TAKEOVER_SECONDS = 120.0
"""How long a new host waits for one that is writing its caches before it ends."""
TICK_SECONDS = 2.0
LOG_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """How this host is run. `ends_idle`: it ends itself after `keep_alive` seconds without a model. `tcp` is the
    address of a listener that is open to all who know `token`. `model` is loaded at once, `report` called with its
    (layers loaded, layers), and stays. `load` and `find` are there for tests."""

    keep_alive: float
    ends_idle: bool = True
    tcp: tuple[str, int] | None = None
    token: str | None = None
    trace: Path | None = None
    trace_text: bool = False
    load: Load = load_running
    find: Callable[[str], str] = resolved
    model: str | None = None
    report: Callable[[int, int], None] = lambda done, total: None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, and without waking up ten times a second to see whether it is to end."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ending = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        await self.ending.wait()


def serve(settings: Settings, options: Options, ready: Callable[[], None] = lambda: None) -> None:
    """Run the host of `settings` until it is stopped; `ready` is called once it answers.

    Raises HostError where another one serves them already.
    """
    place = place_of(settings)
    place.make()
    lock = _taken(place)
    try:
        place.pid.write_text(str(os.getpid()), encoding="ascii")
        asyncio.run(_run(place, options, ready))
    finally:
        lock.release()


def _taken(place: Place) -> FileLock:
    """The lock of `place`, held. Waits for a host that is ending: it has taken its socket away. Raises HostError."""
    lock = FileLock(place.lock)
    patience = time.monotonic() + TAKEOVER_SECONDS
    while True:
        try:
            lock.acquire(timeout=0.2)
            return lock
        except Timeout:
            if place.socket.exists() or time.monotonic() > patience:
                raise HostError(
                    f"a host runs for these settings already ({place.folder}): `ds4-backend status` shows it, "
                    "`ds4-backend stop` ends it"
                ) from None


async def _run(place: Place, options: Options, ready: Callable[[], None]) -> None:
    residents = Residents(options.keep_alive, options.load)
    with _tracing(options) as wrap:
        service = Service(residents, _about(place, options), wrap)
        outside = _tcp_listener(*options.tcp) if options.tcp else None
        servers: list[tuple[_Server, socket.socket]] = []
        servers.append((_server(owner_app(service, options.find)), listen(place.socket)))
        if outside:
            assert options.token
            servers.append((_server(open_app(service, options.token, options.find)), outside))
        _on_signals(service)
        log.info("host %s of ds4-backend %s serves %s", os.getpid(), __version__, place.socket)
        running = [asyncio.create_task(server.serve([sock])) for server, sock in servers]
        watching = asyncio.create_task(_watch(service, place, options))
        try:
            await _started(servers, running)
            ready()
            if options.model:
                await _pinned(service, options.find(options.model), options.report)
            await service.stopping.wait()
        finally:
            service.stop(GRACE_SECONDS)
            place.socket.unlink(missing_ok=True)  # the next caller starts a new host, which waits for this one's lock
            await finished(service)
            for server, _ in servers:
                server.ending.set()
            await asyncio.gather(*running)
            watching.cancel()
            await residents.close()
    log.info("host %s ended", os.getpid())


async def _started(servers: list[tuple[_Server, socket.socket]], running: list[asyncio.Task[None]]) -> None:
    while not all(server.started for server, _ in servers):
        for task in running:
            if task.done():
                task.result()
        await asyncio.sleep(0.01)


async def _pinned(service: Service, model: str, report: Callable[[int, int], None]) -> None:
    """Load `model` for good, unless the host is stopped meanwhile."""
    pinning = asyncio.create_task(service.residents.pin(model, report))
    stopping = asyncio.create_task(service.stopping.wait())
    await asyncio.wait({pinning, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if pinning.done():
        pinning.result()
    pinning.cancel()


def _server(app: Starlette) -> _Server:
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        date_header=False,
        timeout_graceful_shutdown=1,  # for what is written to be read; every answer has ended by then
    )
    return _Server(config)


def _on_signals(service: Service) -> None:
    """The first signal stops with grace, a second one at once."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(RuntimeError, ValueError):  # not on the main thread: whoever runs this stops it
            loop.add_signal_handler(number, lambda: service.stop(0.0 if service.stopping.is_set() else GRACE_SECONDS))


async def _watch(service: Service, place: Place, options: Options) -> None:
    """Unload idle models, end an idle host, and keep its log short."""
    code = _code()
    while True:
        await asyncio.sleep(min(TICK_SECONDS, max(0.05, abs(options.keep_alive) / 4)))
        try:
            await service.residents.sweep()
            _see(service, place, options, code)
            limit_log(place.log)
        except Exception:  # a full disk, say; models must leave all the same, now or at a later look
            log.exception("looking after the host failed")


def _see(service: Service, place: Place, options: Options, code: tuple[int, int] | None) -> None:
    """Stop the host where nobody needs it, can reach it, or should use it any more."""
    residents = service.residents
    idle = time.monotonic() - residents.empty_since
    if options.ends_idle and not len(residents) and not service.answering and 0 <= options.keep_alive <= idle:
        log.info("no model was needed for %.0f s", idle)
        service.stop(0.0)
    if not place.socket.exists() and not service.stopping.is_set():
        log.warning("its socket was removed: nobody can reach this host any more")
        service.stop(GRACE_SECONDS)
    if options.ends_idle and not service.answering and _code() != code:
        log.info("ds4-backend was changed on the disk: the next caller starts a host of what is there now")
        service.stop(0.0)


def _code() -> tuple[int, int] | None:
    """What tells that another version was installed, whose modules must not be mixed with those in memory."""
    try:
        found = Path(ds4_backend.__file__).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def limit_log(path: Path, most: int = LOG_BYTES) -> None:
    """Move what a log holds to NAME.1 once it is larger than `most` bytes; those who append to it go on. Where there is
    no room for NAME.1 it is lost."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > most:
            with contextlib.suppress(OSError):
                shutil.copyfile(path, path.with_name(path.name + ".1"))
            os.truncate(path, 0)


def _tcp_listener(name: str, port: int) -> socket.socket:
    try:
        return socket.create_server((name, port), family=socket.AF_INET6 if ":" in name else socket.AF_INET)
    except OSError as error:
        raise HostError(f"cannot listen on {name} port {port}: {error.strerror or error}") from error


@contextlib.contextmanager
def _tracing(options: Options) -> Iterator[Wrap]:
    if options.trace is None:
        yield lambda engine: engine
        return
    from ds4_backend.engine.trace import Trace, TracingEngine

    with Trace.open(options.trace, text=options.trace_text) as trace:
        yield lambda engine: TracingEngine(engine, trace)


def _about(place: Place, options: Options) -> dict[str, Any]:
    return {
        "socket": str(place.socket),
        "log": str(place.log),
        "tcp": "{}:{}".format(*options.tcp) if options.tcp else None,
        "trace": str(options.trace) if options.trace else None,
    }
