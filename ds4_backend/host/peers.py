"""A listening Unix socket that only its owner gets through: by file mode, by folder, and by who the kernel says calls.

It knows no protocol above that.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
BACKLOG = 128
_LOCAL_PEERCRED = 1
"""macOS, sys/un.h: the option of level SOL_LOCAL (0) that gives a `struct xucred`."""


class OwnerSocket(socket.socket):
    """Takes connections of this process's own user; all others are closed at once."""

    def accept(self) -> tuple[socket.socket, Any]:
        """See `socket.accept`. Raises ConnectionAbortedError, as for a caller that left, for another user's."""
        connection, address = super().accept()
        user = peer_user(connection)
        if user != os.getuid():
            connection.close()
            log.warning("refused a connection of user %s", user)
            raise ConnectionAbortedError(f"user {user} is not {os.getuid()}")
        return connection, address


def listen(path: Path) -> OwnerSocket:
    """A socket that listens at `path`, 0600. What lies there is replaced: whoever calls this holds the place's lock."""
    path.unlink(missing_ok=True)
    listener = OwnerSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # the mode of a socket is that of its making; a later chmod would leave a gap
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def peer_user(connection: socket.socket) -> int:
    """The user id of the process at the other end, as the kernel tells it."""
    if sys.platform == "darwin":
        # struct xucred: version, uid, number of groups, groups
        told = connection.getsockopt(0, _LOCAL_PEERCRED, struct.calcsize("IIh16I"))
        return int(struct.unpack_from("II", told)[1])
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))  # pid, uid, gid
    return int(struct.unpack("3i", told)[1])
