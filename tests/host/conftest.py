"""Hosts for tests: on a thread of this process with scripted engines, or as real processes; all are ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from host_fakes import Waiting

from ds4_backend import settings as user_settings
from ds4_backend.cli.stop import held
from ds4_backend.engine.engine import Engine
from ds4_backend.errors import UnknownModel
from ds4_backend.host.client import HostEngine
from ds4_backend.host.launch import answers, link_of
from ds4_backend.host.place import Place, place_of
from ds4_backend.host.process import Options, serve


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Where this test's host lives: nothing of another test is there."""
    for name in ("STATE", "CACHE", "MODELS"):
        monkeypatch.setenv(f"DS4_BACKEND_{name}_DIR", str(tmp_path / name.lower()))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("ds4_backend.host.process.TICK_SECONDS", 0.1)
    return place_of(user_settings.load())


class ThreadHost:
    """The real host, socket and all, on a thread; its models are the given engines."""

    def __init__(self, place: Place, engines: dict[str, Engine], **options: Any) -> None:
        self.place, self.engines = place, engines
        self.loads: list[str] = []
        self.error: BaseException | None = None
        ready = threading.Event()
        settings = {"keep_alive": 60.0, "load": self._load, "find": self._find} | options
        self._thread = threading.Thread(target=self._serve, args=(Options(**settings), ready), daemon=True)
        self._thread.start()
        assert ready.wait(30)
        if self.error:
            raise self.error

    def _serve(self, options: Options, ready: threading.Event) -> None:
        try:
            serve(user_settings.load(), options, ready.set)
        except BaseException as error:
            self.error = error
            ready.set()

    def _find(self, model: str) -> str:
        if model not in self.engines:
            raise UnknownModel(f"There is no model {model!r}.")
        return model

    def _load(self, model: str, progress: Callable[[int, int], None], make_room: Callable[[int, str], None]) -> Engine:
        self.loads.append(model)
        make_room(getattr(self.engines[model], "nbytes", 0), model)
        for done in (1, 2):
            progress(done, 2)
        return self.engines[model]

    def engine(self, model: str, **options: Any) -> HostEngine:
        """A client's engine; a dead host is not started again."""
        return HostEngine(model, link=link_of(self.place), **options)

    def status(self) -> dict[str, Any]:
        return link_of(self.place).call("/status")

    def stop(self, grace: float = 0.0) -> None:
        if self._thread.is_alive():
            link_of(self.place).call("/stop", {"grace": grace})
        self.ended()

    def ended(self) -> None:
        """Comes back once the host has ended."""
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def start(place: Place) -> Iterator[Callable[..., ThreadHost]]:
    """Starts a host on a thread: `start({"name": engine}, keep_alive=...)`."""
    hosts: list[ThreadHost] = []

    def begin(engines: dict[str, Engine], **options: Any) -> ThreadHost:
        hosts.append(ThreadHost(place, engines, **options))
        return hosts[-1]

    yield begin
    for host in hosts:
        for engine in host.engines.values():
            if isinstance(engine, Waiting):
                engine.release()
        if answers(place):
            host.stop()
        host.ended()


@pytest.fixture
def real(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """The place of a host in a process of its own, started by whoever connects; ended after the test."""
    monkeypatch.setenv("DS4_BACKEND_HOST", "auto")
    yield place
    if held(place):
        from click.testing import CliRunner

        from ds4_backend.cli import main

        assert CliRunner().invoke(main, ["stop", "--grace", "0"]).exit_code == 0
    assert not held(place)
