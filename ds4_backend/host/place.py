"""Where the host of given settings lives: its folder, socket, locks and log.

Hosts with different settings are different hosts, so that none answers with another's cache. It opens no socket.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ds4_backend.errors import HostError
from ds4_backend.settings import Settings

SOCKET_BYTES = 100
"""A socket's path is shorter than this: macOS takes 103 bytes, Linux 107."""


@dataclass(frozen=True, slots=True)
class Place:
    """`folder` is the user's alone (0700); `socket` lies there, or in a shorter folder of the same kind."""

    folder: Path
    socket: Path

    @property
    def lock(self) -> Path:
        """Held by the host as long as it lives."""
        return self.folder / "host.lock"

    @property
    def start_lock(self) -> Path:
        """Held by whoever starts a host."""
        return self.folder / "start.lock"

    @property
    def pid(self) -> Path:
        """The process id of the host that holds the lock, as text."""
        return self.folder / "host.pid"

    @property
    def log(self) -> Path:
        """What the host has to say."""
        return self.folder / "host.log"

    def make(self) -> None:
        """Make the folders. Raises HostError where one is not the user's alone."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        private_folder(self.folder)
        private_folder(self.socket.parent)


def place_of(settings: Settings) -> Place:
    """The place of the host that runs with `settings`. Creates nothing."""
    name = _identity(settings)
    folder = settings.state_dir / "host" / name
    socket = folder / "socket"
    if len(os.fsencode(socket)) < SOCKET_BYTES:
        return Place(folder, socket)
    # Not TMPDIR: it may differ between two programs of one user, who must find the same socket.
    return Place(folder, Path("/tmp") / f"ds4-backend-{os.getuid()}" / name)


def private_folder(folder: Path) -> None:
    """Make `folder` for this user alone, or take one that is. Raises HostError for one that others own or can enter."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise HostError(
                f"{folder} must be a folder of yours (user {os.getuid()}); it belongs to user {found.st_uid}. "
                "Remove it, or set DS4_BACKEND_STATE_DIR to another folder"
            ) from None
        if found.st_mode & 0o077:
            folder.chmod(0o700)


def _identity(settings: Settings) -> str:
    """What makes one host another, as 12 hexadecimal digits. How long models stay, and traces, are not part of it."""
    parts = (
        settings.config_file and settings.config_file.absolute(),
        settings.cache_dir,
        settings.state_dir,
        settings.ops,
        settings.cache,
        settings.cache_size,
    )
    return hashlib.blake2b(json.dumps([str(part) for part in parts]).encode(), digest_size=6).hexdigest()
