"""The Hugging Face hub as `download` sees it: what a file is, and its bytes from an offset on.

`huggingface_hub` does the talking (addresses, tokens, retries). Its own `hf_hub_download` throws a partial file away
when it is interrupted (seen in 2.4), which is no way to fetch 81 GiB; so the file is asked for in segments here, each a
ranged request, appended to a file that the next run goes on with. This module knows no build and no folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from ds4_backend.errors import DownloadError
from ds4_backend.machine import GIB
from ds4_backend.progress import Report

SEGMENT = GIB  # bytes of one request; the hub serves no plain request above 50 GB
NETWORK_LIBRARIES = {"httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "huggingface_hub"}


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the hub: exact size, SHA-256 (None where the hub keeps none), and the commit it was read at."""

    nbytes: int
    sha256: str | None
    revision: str


class Hub(Protocol):
    """What `download` needs of a hub. Both raise DownloadError where the network or the hub says no."""

    def describe(self, repository: str, file: str) -> RemoteFile:
        """What the hub says of `file` on the main branch."""

    def fetch(self, repository: str, file: str, remote: RemoteFile, start: int, out: BinaryIO, report: Report) -> None:
        """Appends the bytes from `start` to the end to `out`; reports bytes of the file, done and in all."""


class HuggingFaceHub:
    """The real hub. `endpoint` None takes huggingface_hub's own (HF_ENDPOINT); the token is the user's own, if any."""

    def __init__(self, endpoint: str | None = None, segment: int = SEGMENT) -> None:
        self._endpoint = endpoint
        self._segment = segment

    def describe(self, repository: str, file: str) -> RemoteFile:
        """See `Hub`."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(endpoint=self._endpoint)
        with _refusals(f"{file} in {repository}"):
            revision = api.model_info(repository).sha or "main"
            found = api.get_paths_info(repository, [file], revision=revision)
        for one in found:
            if isinstance(one, RepoFile):
                return RemoteFile(one.size, one.lfs.sha256 if one.lfs else None, revision)
        raise DownloadError(f"{repository} has no file {file} any more.")

    def fetch(self, repository: str, file: str, remote: RemoteFile, start: int, out: BinaryIO, report: Report) -> None:
        """See `Hub`."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers, disable_progress_bars

        disable_progress_bars("huggingface_hub.http_get")
        url = hf_hub_url(repository, file, revision=remote.revision, endpoint=self._endpoint)
        with _refusals(f"{file} in {repository}"):
            for first in range(start, remote.nbytes, self._segment):
                nbytes = min(self._segment, remote.nbytes - first)
                part = _Segment(out, first, nbytes, lambda done: report(done, remote.nbytes))
                headers = build_hf_headers() | {"Range": f"bytes={first}-{first + nbytes - 1}"}
                http_get(url, part, headers=headers, expected_size=nbytes)  # type: ignore[arg-type]


class _Segment:
    """One segment of the file as http_get sees it: a binary file that starts at 0 and holds `nbytes` at most.

    `first` is where it starts in the whole file; `report` is called with the whole file's bytes done.
    """

    def __init__(self, out: BinaryIO, first: int, nbytes: int, report: Callable[[int], None]) -> None:
        self._out = out
        self._origin = out.tell()
        self._first = first
        self._nbytes = nbytes
        self._report = report

    def write(self, data: bytes) -> int:
        if self.tell() + len(data) > self._nbytes:
            raise DownloadError("the hub sends more bytes than were asked for; try again later.")
        written = self._out.write(data)
        self._report(self._first + self.tell())
        return written

    def tell(self) -> int:
        return self._out.tell() - self._origin

    def seek(self, offset: int) -> int:
        return self._out.seek(self._origin + offset)

    def truncate(self) -> int:
        return self._out.truncate()


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """Turns what the network libraries raise into one DownloadError; anything else is a bug and goes on."""
    try:
        yield
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        if not isinstance(error, OSError) and library not in NETWORK_LIBRARIES:
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DownloadError(
            f"{what} cannot be fetched: {reason}\nCheck the network (and HF_TOKEN, HF_ENDPOINT or HF_HUB_OFFLINE where "
            "set); the same command goes on where it stopped."
        ) from error
