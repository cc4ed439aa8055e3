"""The commands that speak of the host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ds4_backend import settings as user_settings
from ds4_backend.cli import main
from ds4_backend.cli.status import span
from ds4_backend.connect import connect
from ds4_backend.engine.scripted import ScriptedEngine, scripted
from ds4_backend.errors import EngineError
from ds4_backend.host.client import HostEngine
from ds4_backend.host.launch import answers, link_of
from ds4_backend.host.place import place_of
from ds4_backend.host.process import Options, serve
from ds4_backend.types import End, Failed, Message, Progress, Request, TextDelta, Timings, Usage

ROOT = Path(__file__).parents[2]
HELLO = Request((Message("user", "hello"),))
STATUS = {
    "running": 1,
    "queued": 2,
    "prefill_tokens_per_second": 1500.0,
    "decode_tokens_per_second": 120.5,
    "input_tokens": 1234,
    "cached_tokens": 1000,
    "cached_disk_tokens": 200,
    "output_tokens": 77,
    "state_bytes": 1 << 20,
}


class Telling(ScriptedEngine):
    """A scripted engine that has something to tell."""

    def status(self) -> dict[str, Any]:
        return {"model": "m", **STATUS}


@pytest.fixture
def host(run: Any) -> Iterator[None]:
    """A host on a thread whose model `m` answers `hi`; `run`'s settings lead to it."""
    ready = threading.Event()
    options = Options(
        keep_alive=60, load=lambda *_: Telling((TextDelta("hi"), End("stop")), (End("stop"),)), find=lambda model: model
    )
    now = user_settings.load()
    thread = threading.Thread(target=serve, args=(now, options, ready.set), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield
    if answers(place_of(now)):
        link_of(place_of(now)).call("/stop", {"grace": 0})
    thread.join(30)
    assert not thread.is_alive()


def client(model: str = "m") -> HostEngine:
    return HostEngine(model, link=link_of(place_of(user_settings.load())))


def test_status_says_where_requests_go(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("status").output.startswith("The setting `host` is off: requests run the model in the process")
    monkeypatch.setenv("DS4_BACKEND_HOST", "http://127.0.0.1:9")
    assert run("status").output == "Requests go to http://127.0.0.1:9.\nNo host runs for these settings.\n"


@pytest.mark.usefixtures("host")
def test_status_asks_the_host_at_an_address(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DS4_BACKEND_HOST", f"unix://{place_of(user_settings.load()).socket}")
    monkeypatch.setenv("DS4_BACKEND_STATE_DIR", str(tmp_path / "other"))
    assert f"host {os.getpid()}, ds4-backend" in run("status").output


def test_without_a_host_status_and_stop_say_so(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS4_BACKEND_HOST", "auto")
    assert run("status").output == "No host runs for these settings. The next request starts one.\n"
    assert json.loads(run("status", "--json").output)["running"] is False
    assert run("stop").output == "No host runs for these settings.\n"


@pytest.mark.usefixtures("host")
def test_status_shows_host_requests_model_speed_and_cache(run: Any) -> None:
    assert "no model is loaded" in run("status").output
    list(client().chat(HELLO))
    shown = run("status").output
    assert f"host {os.getpid()}, ds4-backend" in shown
    assert "requests: 0 in progress, 1 answered, 0 failed, 0 cancelled" in shown
    assert "m: loaded, idle, leaves in 1 min 0 s" in shown or "m: loaded, idle, leaves in 5" in shown
    assert "running 1, queued 2; prefill 1,500.0 tokens/s, decode 120.5 tokens/s" in shown
    assert "read 1,234 tokens, 1,000 of them from the cache (200 from disk); wrote 77" in shown
    assert "conversations in memory: 1.0 MiB" in shown


@pytest.mark.usefixtures("host")
def test_status_is_json_for_programs(run: Any) -> None:
    client().load()
    told = json.loads(run("status", "--json").output)
    assert (told["running"], told["pid"], told["protocol"]) == (True, os.getpid(), 1)
    assert told["models"][0].items() >= STATUS.items()
    assert told["machine"]["memory_total"] > told["memory_bytes"] > 0


@pytest.mark.usefixtures("host")
def test_status_names_a_host_of_another_version(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ds4_backend.__version__", "9.9")
    shown = run("status").output
    assert "this command is ds4-backend 9.9; `ds4-backend stop` lets the next request start that" in shown


@pytest.mark.usefixtures("host")
def test_stop_comes_back_once_the_host_has_ended(run: Any) -> None:
    assert run("stop").output == "The host has ended.\n"
    assert run("stop").output == "No host runs for these settings.\n"


@pytest.mark.usefixtures("host")
def test_a_second_host_is_refused_with_the_way_out(run: Any) -> None:
    refused = run("serve")
    assert refused.exit_code == 1
    assert "a host runs for these settings already" in refused.output and "`ds4-backend stop`" in refused.output


@pytest.mark.parametrize(
    ("words", "token", "told"),
    [
        (["--tcp", "127.0.0.1:9"], None, "--tcp needs a token: set DS4_BACKEND_TOKEN"),
        (["--tcp", "0.0.0.0:9"], "secret", "can be reached from other machines"),
        (["--tcp", "192.168.0.1:9"], "secret", "or add --allow-remote"),
        (["--tcp", "9"], "secret", "allowed: HOST:PORT"),
        (["--tcp", "host:0"], "secret", "allowed: HOST:PORT"),
        (["--keep-alive", "soon"], None, "allowed: seconds, or a time such as 90s"),
    ],
)
def test_an_open_or_nonsensical_listener_is_refused(
    run: Any, monkeypatch: pytest.MonkeyPatch, words: list[str], token: str | None, told: str
) -> None:
    if token:
        monkeypatch.setenv("DS4_BACKEND_TOKEN", token)
    refused = run("serve", *words)
    assert refused.exit_code in (1, 2)
    assert told in refused.output


def test_a_port_that_is_taken_is_named(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setenv("DS4_BACKEND_TOKEN", "secret")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1 port {port}" in run("serve", "--tcp", f"127.0.0.1:{port}").output


def test_warm_reads_a_prefix_and_generates_nothing(run: Any, tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Be kind.")
    (tmp_path / "tools.json").write_text('[{"type": "function", "function": {"name": "f", "parameters": {}}}]')
    script = (Progress(5, 10), End("length", Usage(10, 4), Timings(prefill_seconds=2.0)))
    with scripted("m", script) as engine:
        files = ("--system", tmp_path / "system.txt", "--tools", tmp_path / "tools.json")
        shown = run("warm", "-m", "m", *files)
    assert "10 tokens, 4 of them known already, in 2.0 s." in shown.output
    (request,) = engine.requests
    assert request.max_tokens == 0
    assert request.messages == (Message("system", "Be kind."),)
    assert request.tools[0].name == "f"


def test_warm_without_files_loads_the_model(run: Any) -> None:
    with scripted("m"):
        assert run("warm", "-m", "m").output.endswith("m is loaded.\n")


@pytest.mark.parametrize(("name", "text"), [("--tools", "{}"), ("--tools", "["), ("--system", None)])
def test_warm_names_a_file_that_it_cannot_use(run: Any, tmp_path: Path, name: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / "file").write_text(text)
    with scripted("m"):
        refused = run("warm", "-m", "m", name, tmp_path / "file")
    assert refused.exit_code == 1
    assert str(tmp_path / "file") in refused.output


def test_warm_tells_what_went_wrong(run: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with scripted("m", (Failed(EngineError("the disk is gone")),)):
        assert run("warm", "-m", "m", "--system", tmp_path / "file").output.endswith("Error: the disk is gone\n")


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (65, "1 min 5 s"), (7260, "2 h 1 min")])
def test_times_are_told_as_people_say_them(seconds: float, said: str) -> None:
    assert span(seconds) == said


@pytest.mark.slow
def test_a_host_in_the_foreground_serves_traces_and_ends_at_ctrl_c(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DS4_BACKEND_HOST", "auto")
    words = ["serve", "-m", "ds4-tiny", "--trace", str(tmp_path / "trace.jsonl")]
    serving = subprocess.Popen([sys.executable, "-m", "ds4_backend.cli", *words], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(1000):
            if answers(place_of(user_settings.load())):
                break
            time.sleep(0.05)
        list(connect("ds4-tiny").chat(Request((Message("user", "My name is Gertrude"),), max_tokens=5)))
        assert "ds4-tiny: loaded, stays" in run("status").output
        assert int(json.loads(run("status", "--json").output)["pid"]) == serving.pid
    finally:
        serving.send_signal(signal.SIGINT)
        errors = serving.communicate()[1]
    assert serving.returncode == 0, errors
    assert "The host answers; Ctrl-C ends it." in errors and "Traceback" not in errors
    trace = (tmp_path / "trace.jsonl").read_text()
    assert "Gertrude" not in trace
    assert json.loads(trace.splitlines()[-1])["kind"] == "End"
    assert CliRunner().invoke(main, ["status"]).output.startswith("No host runs")
