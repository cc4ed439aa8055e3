"""Downloads against a hub that lives in this file: refusals, resuming, checksums."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import gguf
import numpy as np
import pytest

from ds4_backend.catalog import download as downloads
from ds4_backend.catalog.builds import Build
from ds4_backend.catalog.download import download
from ds4_backend.catalog.hub import RemoteFile
from ds4_backend.catalog.profile import profile_of
from ds4_backend.errors import DoesNotFit, DownloadError, EngineError
from ds4_backend.machine import GIB, Machine
from ds4_backend.settings import Settings

BIG = Machine("Linux", "x86_64", 64 * GIB, 64 * GIB, (2, 36))
SMALL = Machine("Linux", "x86_64", 4 * GIB, 4 * GIB, (2, 36))


class FakeHub:
    """Serves `content`; breaks off after `stop_after` bytes of a fetch, once."""

    def __init__(self, content: bytes, stop_after: int | None = None) -> None:
        self.content = content
        self.stop_after = stop_after
        self.starts: list[int] = []
        self.asked = 0

    def describe(self, repository: str, file: str) -> RemoteFile:
        self.asked += 1
        return RemoteFile(len(self.content), hashlib.sha256(self.content).hexdigest(), "main")

    def fetch(self, repository, file, remote, start, out, report) -> None:
        self.starts.append(start)
        piece = self.content[start:]
        if self.stop_after is not None:
            out.write(piece[: self.stop_after])
            self.stop_after = None
            raise DownloadError("the line broke")
        out.write(piece)
        report(len(self.content), len(self.content))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path / "models", tmp_path / "cache", tmp_path / "state")


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("hub") / "x.gguf"
    writer = gguf.GGUFWriter(path, "deepseek4")
    writer.add_tensor("x", np.arange(4096, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def build_of(content: bytes, **changes) -> Build:
    facts = {
        "name": "q2",
        "file": "model.gguf",
        "nbytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "dialect": "0731",
        "about": "",
    }
    return Build(**facts | changes)


def test_a_download_lands_in_the_models_folder_and_leaves_no_part(settings, content):
    reports: list[tuple[int, int]] = []
    hub = FakeHub(content)
    path = download(build_of(content), settings, hub, machine=BIG, fetching=lambda *now: reports.append(now))
    assert path == settings.models_dir / "model.gguf"
    assert path.read_bytes() == content
    assert not (settings.models_dir / "model.gguf.part").exists()
    assert reports[-1] == (len(content), len(content))


def test_an_interrupted_download_goes_on_where_it_stopped(settings, content):
    hub = FakeHub(content, stop_after=1000)
    with pytest.raises(DownloadError, match="the line broke"):
        download(build_of(content), settings, hub, machine=BIG)
    assert not (settings.models_dir / "model.gguf").exists()
    path = download(build_of(content), settings, hub, machine=BIG)
    assert hub.starts == [0, 1000]
    assert path.read_bytes() == content


def test_a_part_that_is_whole_is_not_asked_for_again(settings, content):
    settings.models_dir.mkdir()
    (settings.models_dir / "model.gguf.part").write_bytes(content)
    hub = FakeHub(content)
    download(build_of(content), settings, hub, machine=BIG)
    assert hub.starts == []


def test_a_part_that_is_too_long_is_begun_anew(settings, content):
    settings.models_dir.mkdir()
    (settings.models_dir / "model.gguf.part").write_bytes(content + b"more")
    hub = FakeHub(content)
    assert download(build_of(content), settings, hub, machine=BIG).read_bytes() == content
    assert hub.starts == [0]


def test_an_installed_file_is_checked_without_the_network(settings, content):
    hub = FakeHub(content)
    download(build_of(content), settings, hub, machine=BIG)
    download(build_of(content), settings, hub, machine=BIG)
    assert hub.asked == 1


def test_damaged_bytes_are_removed_and_told(settings, content):
    settings.models_dir.mkdir()
    part = settings.models_dir / "model.gguf.part"
    part.write_bytes(b"\0" * 100)
    with pytest.raises(DownloadError, match="SHA-256 is"):
        download(build_of(content), settings, FakeHub(content), machine=BIG)
    assert not part.exists()
    assert not (settings.models_dir / "model.gguf").exists()


def test_too_little_memory_refuses_before_the_hub_is_asked(settings, content):
    hub = FakeHub(content)
    with pytest.raises(DoesNotFit) as caught:
        download(build_of(content), settings, hub, machine=SMALL)
    assert "of memory, this machine has 4.0 GiB" in str(caught.value) and "--force" in str(caught.value)
    assert hub.asked == 0
    assert not settings.models_dir.exists()


def test_too_little_disk_refuses_with_the_numbers(settings, content, monkeypatch):
    monkeypatch.setattr(downloads, "free_disk", lambda folder: GIB)
    with pytest.raises(DoesNotFit, match=r"of free disk, there is 1\.0 GiB"):
        download(build_of(content), settings, FakeHub(content), machine=BIG)


def test_force_passes_over_memory_and_disk(settings, content):
    assert download(build_of(content), settings, FakeHub(content), machine=SMALL, force=True).exists()


def test_an_unsupported_platform_is_refused_even_with_force(settings, content):
    windows = Machine("Windows", "amd64", 64 * GIB, 64 * GIB)
    with pytest.raises(EngineError, match="Windows"):
        download(build_of(content), settings, FakeHub(content), machine=windows, force=True)


def test_a_file_that_the_publisher_replaced_is_refused_unless_forced(settings, content):
    build = build_of(content, sha256="0" * 64)
    with pytest.raises(DownloadError, match="was replaced by its publisher"):
        download(build, settings, FakeHub(content), machine=BIG)
    assert download(build, settings, FakeHub(content), machine=BIG, force=True).read_bytes() == content


def test_a_build_without_a_known_digest_takes_the_hubs(settings, content):
    assert download(build_of(content, sha256=None), settings, FakeHub(content), machine=BIG).exists()


def test_what_nobody_has_a_digest_of_is_refused(settings, content):
    class Plain(FakeHub):
        def describe(self, repository, file):
            return RemoteFile(len(self.content), None, "main")

    with pytest.raises(DownloadError, match="cannot be checked"):
        download(build_of(content, sha256=None), settings, Plain(content), machine=BIG)


def test_a_hub_that_sends_too_little_leaves_the_part_for_the_next_run(settings, content):
    class Short(FakeHub):
        def fetch(self, repository, file, remote, start, out, report):
            out.write(self.content[start : start + 10])

    with pytest.raises(DownloadError, match=f"10 of {len(content)} bytes"):
        download(build_of(content), settings, Short(content), machine=BIG)
    assert (settings.models_dir / "model.gguf.part").stat().st_size == 10


def test_two_downloads_of_one_file_do_not_mix(settings, content):
    class Nested(FakeHub):
        def fetch(self, repository, file, remote, start, out, report):
            with pytest.raises(DownloadError, match="by another process"):
                download(build_of(content), settings, FakeHub(content), machine=BIG)
            super().fetch(repository, file, remote, start, out, report)

    assert download(build_of(content), settings, Nested(content), machine=BIG).read_bytes() == content


def test_a_downloaded_file_keeps_its_profile_under_another_name(settings, content, tmp_path):
    from ds4_backend.gguf.reader import open_gguf

    path = download(build_of(content), settings, FakeHub(content), machine=BIG)
    renamed = path.rename(tmp_path / "renamed.gguf")
    with open_gguf(renamed) as file:
        assert profile_of(file, settings).dialect == "0731"


def test_the_checksum_reports_its_progress(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"abc")
    seen: list[tuple[int, int]] = []
    assert downloads.sha256_of(file, lambda *now: seen.append(now)) == hashlib.sha256(b"abc").hexdigest()
    assert seen == [(3, 3)]


def test_a_bar_starts_where_the_work_starts():
    from ds4_backend.progress import bar

    out = io.StringIO()
    with bar("fetching", stream=out) as report:
        report(512, 1024)
        report(1024, 1024)
    assert "fetching" in out.getvalue() and "1.00k/1.00k" in out.getvalue()
