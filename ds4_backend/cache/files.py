"""The few file operations of the store, in one place: modes, locks, durability. It knows no formats.

Tests replace `Files` by one that stops at a chosen step, to see what a crash there leaves behind.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW
MARKERS = {
    "CACHEDIR.TAG": b"Signature: 8a477f597d28d172789f06886806bc55\n# Made by ds4-backend; backups may leave it out.\n",
    ".metadata_never_index": b"",  # Spotlight
}


class Files:
    """The operating system's files. Every method raises OSError and nothing else."""

    def make_folder(self, path: Path) -> None:
        """Make `path` and its parents; nobody else may look inside, whatever the umask."""
        path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        if stat.S_IMODE(path.stat().st_mode) != FOLDER_MODE:
            path.chmod(FOLDER_MODE)
        for name, text in MARKERS.items():
            if not (path / name).exists():
                with suppress(FileExistsError):
                    fd = self.create(path / name)
                    os.write(fd, text)
                    os.close(fd)

    def create(self, path: Path) -> int:
        """A new file of mode 0600, open for reading and writing; FileExistsError where there is one."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE, FILE_MODE)
        os.fchmod(fd, FILE_MODE)
        return fd

    def open_write(self, path: Path) -> int:
        """An existing plain file, for reading and writing."""
        return _plain(os.open(path, os.O_RDWR | os.O_NONBLOCK | _SAFE), path)

    def open_read(self, path: Path) -> int:
        """An existing plain file, for reading."""
        return _plain(os.open(path, os.O_RDONLY | os.O_NONBLOCK | _SAFE), path)

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data` at `offset`."""
        view = memoryview(data)
        while view:
            done = os.pwrite(fd, view[: 1 << 24], offset)
            view, offset = view[done:], offset + done

    def sync(self, fd: int) -> None:
        """Hand what was written to the device."""
        os.fsync(fd)

    def harden(self, fd: int) -> None:
        """Ask the device to empty its own cache; only macOS tells this from `sync`."""
        if hasattr(fcntl, "F_FULLFSYNC"):
            with suppress(OSError):  # not every file system knows it
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)

    def sync_folder(self, path: Path) -> None:
        """Make new names in a folder durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(fd, size)

    def unlink(self, path: Path) -> None:
        """Remove a name; that it is gone already is fine. Whoever holds the file open may go on reading it."""
        path.unlink(missing_ok=True)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file its final name, at one stroke."""
        old.rename(new)

    def step(self, name: str) -> None:
        """Called around every commit of the index; does nothing here."""


def read_at(fd: int, buffers: list[memoryview], offset: int) -> int:
    """Fill buffers with the bytes from `offset` on; returns how many there were."""
    if hasattr(os, "preadv"):
        done = os.preadv(fd, buffers, offset)
        if done == sum(map(len, buffers)) or done == 0:
            return done
    done = 0
    for buffer in buffers:  # also after a short read, which a signal or a large count may cause
        filled = 0
        while filled < len(buffer):
            piece = os.pread(fd, min(len(buffer) - filled, 1 << 24), offset + done)
            if not piece:
                return done
            buffer[filled : filled + len(piece)] = piece
            filled, done = filled + len(piece), done + len(piece)
    return done


def try_lock(fd: int) -> bool:
    """Whether this descriptor now holds the file's one lock. The kernel frees it when the holder ends, however."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_linked(fd: int) -> bool:
    """Whether the open file still has a name."""
    return os.fstat(fd).st_nlink > 0


@contextmanager
def folder_lock(folder: Path, files: Files) -> Iterator[None]:
    """One process at a time: taken while the index is made anew and while a segment is taken over or cut."""
    path = folder / "store.lock"
    try:
        fd = files.create(path)
    except FileExistsError:
        fd = files.open_write(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _plain(fd: int, path: Path) -> int:
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(f"{path} is no plain file")
