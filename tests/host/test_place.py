"""Where a host lives, and who may get there."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from ds4_backend import settings as user_settings
from ds4_backend.errors import HostError
from ds4_backend.host.peers import OwnerSocket, listen, peer_user
from ds4_backend.host.place import SOCKET_BYTES, Place, place_of, private_folder
from ds4_backend.host.process import limit_log


def place_with(**environ: str) -> Place:
    base = {"DS4_BACKEND_STATE_DIR": "/state", "DS4_BACKEND_CACHE_DIR": "/cache", "DS4_BACKEND_MODELS_DIR": "/models"}
    return place_of(user_settings.load(base | {f"DS4_BACKEND_{name.upper()}": text for name, text in environ.items()}))


def test_equal_settings_have_one_host() -> None:
    assert place_with() == place_with()
    assert place_with().folder.parent == Path("/state/host")


@pytest.mark.parametrize(
    ("name", "value"), [("cache_dir", "/other"), ("ops", "mlx"), ("cache", "off"), ("cache_size", "9GB")]
)
def test_settings_that_change_what_a_host_does_have_another(name: str, value: str) -> None:
    assert place_with(**{name: value}).folder != place_with().folder


@pytest.mark.parametrize(
    ("name", "value"), [("keep_alive", "1h"), ("trace", "/t.jsonl"), ("token", "x"), ("host", "off")]
)
def test_settings_of_the_client_or_of_patience_do_not(name: str, value: str) -> None:
    assert place_with(**{name: value}) == place_with()


def test_a_long_state_folder_gets_its_socket_in_a_short_one_that_is_its_own(tmp_path: Path) -> None:
    far = tmp_path / ("x" * 120)
    place = place_with(state_dir=str(far))
    assert place.folder.is_relative_to(far)
    assert len(os.fsencode(place.socket)) < SOCKET_BYTES
    assert str(os.getuid()) in place.socket.parent.name
    assert place.socket != place_with(state_dir=str(tmp_path / ("y" * 120))).socket


def test_the_config_files_path_counts_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").touch()
    monkeypatch.chdir(tmp_path)
    assert place_with(config="mine.toml") == place_with(config=str(tmp_path / "mine.toml")) != place_with()


def test_folders_are_made_for_the_user_alone(tmp_path: Path) -> None:
    place = Place(tmp_path / "state" / "host" / "a", tmp_path / "state" / "host" / "a" / "socket")
    place.make()
    place.make()
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700


def test_an_open_folder_of_the_users_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    private_folder(tmp_path / "open")
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o700


def test_a_folder_that_another_user_laid_out_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(HostError, match=r"must be a folder of yours \(user 12345\)"):
        private_folder(tmp_path / "theirs")


def test_a_link_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(HostError, match="must be a folder of yours"):
        private_folder(tmp_path / "link")


def test_the_kernel_names_the_caller() -> None:
    one, two = socket.socketpair(socket.AF_UNIX)
    with one, two:
        assert peer_user(one) == os.getuid()


@pytest.mark.skipif(sys.platform == "darwin", reason="reads a Linux answer")
def test_macos_tells_the_caller_by_its_own_struct(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            assert (level, option) == (0, 1)  # SOL_LOCAL, LOCAL_PEERCRED
            return b"\0\0\0\0" + (501).to_bytes(4, sys.byteorder) + b"\1\0\0\0" + bytes(size - 12)

    monkeypatch.setattr(sys, "platform", "darwin")
    assert peer_user(Connection()) == 501  # type: ignore[arg-type]


def test_a_connection_of_another_user_is_never_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = listen(tmp_path / "s")
    with listener, socket.socket(socket.AF_UNIX) as caller:
        assert isinstance(listener, OwnerSocket)
        caller.connect(str(tmp_path / "s"))
        monkeypatch.setattr("ds4_backend.host.peers.peer_user", lambda connection: 12345)
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
        assert caller.recv(1) == b""


def test_a_long_log_is_moved_aside_and_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "host.log"
    with log.open("a") as writer:
        writer.write("x" * 2000)
        writer.flush()
        limit_log(log, most=1000)
        writer.write("new")
    assert log.read_text() == "new"
    assert (tmp_path / "host.log.1").read_text() == "x" * 2000


def test_a_long_log_that_cannot_be_moved_is_cut_all_the_same(tmp_path: Path) -> None:
    log = tmp_path / "host.log"
    log.write_text("x" * 2000)
    (tmp_path / "host.log.1").mkdir()
    limit_log(log, most=1000)
    assert log.read_text() == ""
