"""Fetch a published build: refuse early, go on where it stopped, believe nothing but the SHA-256.

The bytes collect in `FILE.part` in the models folder, under a lock; the file gets its name only once its SHA-256 is
right. What a hub is lies in hub.py; what is published, in builds.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ds4_backend.catalog import build_path, is_installed
from ds4_backend.catalog.builds import Build
from ds4_backend.catalog.hub import Hub, RemoteFile
from ds4_backend.catalog.profile import remember_header
from ds4_backend.errors import DoesNotFit, DownloadError
from ds4_backend.machine import Machine, check_platform, fits, free_disk, gib, this_machine
from ds4_backend.progress import Report, silent
from ds4_backend.settings import Settings

CHUNK = 8 << 20  # bytes hashed at a time


def download(
    build: Build,
    settings: Settings,
    hub: Hub,
    *,
    machine: Machine | None = None,
    force: bool = False,
    fetching: Report = silent,
    checking: Report = silent,
) -> Path:
    """Fetch `build` into the models folder and return its path; a file already there is only checked.

    `fetching` and `checking` are called with bytes done and in all. `force` skips the checks of memory and disk, and
    takes a file that the publisher has replaced since; its SHA-256 is then the hub's.

    Raises DoesNotFit before the first byte, and DownloadError for everything the network, the hub or the checksum say.
    """
    machine = machine or this_machine()
    check_platform(machine)
    target = build_path(build, settings)
    if is_installed(build, settings) and build.sha256:
        _check_digest(target, build.sha256, checking)
    else:
        part = target.with_name(target.name + ".part")
        if not force:
            _check_room(build, machine, settings, part)
        remote = hub.describe(build.repository, build.file)
        wanted = _wanted_digest(build, remote, force)
        settings.models_dir.mkdir(parents=True, exist_ok=True)
        with _alone(part):
            _fetch(build, hub, remote, part, fetching)
            _check_digest(part, wanted, checking)
            part.replace(target)
    _remember(target, build, settings)
    return target


def sha256_of(path: Path, report: Report = silent) -> str:
    """The SHA-256 of a file, in hexadecimal; reports bytes read and in all."""
    digest = hashlib.sha256()
    total = path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            report(file.tell(), total)
    return digest.hexdigest()


def _check_room(build: Build, machine: Machine, settings: Settings, part: Path) -> None:
    verdict = fits(build.nbytes, machine, free_disk(settings.models_dir), already_there=_size(part))
    if not verdict.fits:
        raise DoesNotFit(
            f"The build {build.name} ({gib(build.nbytes)}) does not fit: it {'; it '.join(verdict.reasons)}.\n"
            f"The models folder is {settings.models_dir}; DS4_BACKEND_MODELS_DIR names another. "
            "--force downloads all the same."
        )


def _wanted_digest(build: Build, remote: RemoteFile, force: bool) -> str:
    same = build.sha256 in (None, remote.sha256) and build.nbytes == remote.nbytes
    if not same and not force:
        raise DownloadError(
            f"{build.file} was replaced by its publisher: the hub has {remote.nbytes} bytes with SHA-256 "
            f"{remote.sha256}, this version knows {build.nbytes} bytes with {build.sha256}. --force takes the new one."
        )
    wanted = remote.sha256 or build.sha256
    if wanted is None:
        raise DownloadError(f"Neither the hub nor this version knows a SHA-256 of {build.file}; it cannot be checked.")
    return wanted


def _fetch(build: Build, hub: Hub, remote: RemoteFile, part: Path, report: Report) -> None:
    if _size(part) > remote.nbytes:
        part.unlink()
    with part.open("ab") as out:
        if out.tell() < remote.nbytes:
            hub.fetch(build.repository, build.file, remote, out.tell(), out, report)
    if _size(part) != remote.nbytes:
        raise DownloadError(
            f"{_size(part)} of {remote.nbytes} bytes of {build.file} came. The same command goes on from there."
        )


def _check_digest(path: Path, wanted: str, report: Report) -> None:
    found = sha256_of(path, report)
    if found != wanted:
        path.unlink()
        raise DownloadError(
            f"{path.name} is damaged: its SHA-256 is {found}, it should be {wanted}. It was removed; run the same "
            "command again."
        )


def _remember(target: Path, build: Build, settings: Settings) -> None:
    """Keeps the header's digest, so that a renamed copy is still known for what it is."""
    from ds4_backend.gguf.inspect import header_digest
    from ds4_backend.gguf.reader import open_gguf

    with open_gguf(target) as gguf:
        remember_header(header_digest(gguf), build, settings)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Keeps a second download of the same file out: two of them would append to one `.part`."""
    from filelock import FileLock, Timeout

    try:
        with FileLock(part.with_name(part.name + ".lock"), timeout=0):
            yield
    except Timeout:
        raise DownloadError(f"{part.name} is being downloaded by another process already.") from None
