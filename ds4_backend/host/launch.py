"""Starts the host of given settings as a process of its own, once for all who ask at the same moment.

It imports nothing of the host's own; it knows its place and how to ask whether it answers.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from ds4_backend.errors import HostError
from ds4_backend.host.link import Link, Lost, Unreachable
from ds4_backend.host.place import Place

log = logging.getLogger(__name__)
START_SECONDS = 180.0
"""How long a host may take until it answers: one that ends may have to write its caches first."""
POLL_SECONDS = 0.03
HELLO_SECONDS = 10.0
LOG_BYTES = 1 << 20
LOG_LINES = 12


def link_of(place: Place) -> Link:
    """The link to the host that lives at `place`."""
    return Link(f"unix://{place.socket}", socket=place.socket)


def answers(place: Place) -> bool:
    """Whether a host is there that takes requests. Raises HostError where it is of another protocol."""
    if not place.socket.exists():
        return False
    try:
        return link_of(place).call("/hello", seconds=HELLO_SECONDS).get("stopping") is False
    except (Unreachable, Lost):
        return False


def ensure(place: Place) -> None:
    """Come back once a host answers at `place`. Raises HostError with the end of its log where none does."""
    from filelock import FileLock

    if answers(place):
        return
    try:
        place.make()
        with FileLock(place.start_lock):
            if not answers(place):
                _start(place)
    except OSError as error:
        raise HostError(
            f"no host can be started in {place.folder}: {error.strerror or error}. Set DS4_BACKEND_STATE_DIR to a "
            "folder that can be written"
        ) from error


def _start(place: Place) -> None:
    process = _spawn(place)
    threading.Thread(target=process.wait, name="ds4-host", daemon=True).start()  # or it would stay a zombie
    patience = time.monotonic() + START_SECONDS
    while not answers(place):
        if process.poll() is not None and not answers(place):
            raise HostError(f"the host ended with status {process.returncode} before it answered. {_said(place)}")
        if time.monotonic() > patience:
            process.terminate()
            raise HostError(f"the host did not answer within {START_SECONDS:.0f} s. {_said(place)}")
        time.sleep(POLL_SECONDS)
    log.info("started host %s", process.pid)


def _spawn(place: Place) -> subprocess.Popen[bytes]:
    """In a session of its own, so that no terminal's Ctrl-C or end reaches it; it belongs to nobody who asks."""
    with suppress(FileNotFoundError):
        if place.log.stat().st_size > LOG_BYTES:
            place.log.replace(place.log.with_name(place.log.name + ".1"))
    with open(os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "ds4_backend.host", str(place.folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=place.folder,
            env=_environment(),
            start_new_session=True,
        )


def _environment() -> dict[str, str]:
    """The caller's, with what is relative to its folder made absolute.

    The C library of Linux would give each thread a heap of its own, and what is free in one is of no use to the others:
    with two, a host's memory is smaller by a tenth and stays as it is from its first minutes on.
    """
    environ = {"MALLOC_ARENA_MAX": "2"} | os.environ
    if config := environ.get("DS4_BACKEND_CONFIG"):
        environ["DS4_BACKEND_CONFIG"] = str(Path(config).expanduser().absolute())
    if paths := environ.get("PYTHONPATH"):
        environ["PYTHONPATH"] = os.pathsep.join(str(Path(path).absolute()) for path in paths.split(os.pathsep))
    return environ


def _said(place: Place) -> str:
    """The last lines of its log, for an error's text."""
    with suppress(OSError):
        lines = place.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        if lines:
            return f"The end of its log, {place.log}:\n" + "\n".join(lines)
    return f"Its log, {place.log}, is empty"
