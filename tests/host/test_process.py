"""The host as a process of its own: who starts it, what ends it, what is left when one side is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from host_fakes import said

from ds4_backend.cli.stop import held
from ds4_backend.connect import connect
from ds4_backend.errors import HostError, NotInstalled, UnknownModel
from ds4_backend.host import launch
from ds4_backend.host.launch import answers, ensure, link_of
from ds4_backend.host.place import Place
from ds4_backend.types import End, Failed, Message, Request, Sampling

ROOT = Path(__file__).parents[2]
SUM = Request((Message("user", "What is 3 times 12?"),), sampling=Sampling(temperature=0))
LONG = Request((Message("user", "Tell me a story"),), sampling=Sampling(temperature=1, seed=1), max_tokens=4000)


def until(true: Callable[[], object]) -> None:
    for _ in range(3000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never came true")


def client(code: str) -> subprocess.Popen[str]:
    """Another process that runs `code` with a host of the same settings."""
    paths = [str(ROOT), str(ROOT / "plugins"), str(Path(__file__).parent)]
    lead = f"import sys; sys.path[:0] = {paths}; from test_process import *\n"
    return subprocess.Popen([sys.executable, "-c", lead + code], stdout=subprocess.PIPE, text=True)


def pid_of(place: Place) -> int:
    return int(link_of(place).call("/hello")["pid"])


def test_a_mistake_in_the_models_name_starts_no_host(real: Place) -> None:
    with pytest.raises(UnknownModel, match="ds4-tiny"):
        connect("ds4-tyni")
    with pytest.raises(NotInstalled, match="ds4-backend download"):
        connect("ds4-flash")
    assert not real.folder.exists()


def test_a_client_is_light() -> None:
    """What computes is for the host to load, and what serves; httpx comes with the first call."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import ds4_backend.connect, ds4_backend.host.client"
    done = subprocess.run([sys.executable, "-c", code + "; print(*sys.modules)"], capture_output=True, text=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    heavy = {
        "numpy",
        "tokenizers",
        "deepseek_recipe",
        "mlx",
        "gguf",
        "llguidance",
        "starlette",
        "uvicorn",
        "psutil",
        "httpx",
    }
    assert "ds4_backend" in loaded
    assert loaded & heavy == set()


def test_a_host_has_few_heaps_unless_its_starter_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert launch._environment()["MALLOC_ARENA_MAX"] == "2"
    monkeypatch.setenv("MALLOC_ARENA_MAX", "4")
    assert launch._environment()["MALLOC_ARENA_MAX"] == "4"


def test_a_host_that_does_not_come_up_says_why(real: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ds4_backend.host.launch._environment", lambda: os.environ | {"DS4_BACKEND_STATE_DIR": str(real.folder)}
    )
    with pytest.raises(HostError, match=r"ended with status 1 before it answered(.|\n)*this host's settings belong to"):
        connect("ds4-tiny")


def test_a_state_folder_that_cannot_be_made_is_the_hosts_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DS4_BACKEND_HOST", "auto")
    monkeypatch.setenv("DS4_BACKEND_STATE_DIR", str(tmp_path / "file" / "state"))
    with pytest.raises(HostError, match=r"no host can be started in .*: Not a directory. Set DS4_BACKEND_STATE_DIR"):
        connect("ds4-tiny")


@pytest.mark.slow
def test_the_first_who_asks_starts_a_host_and_the_next_use_it(real: Place) -> None:
    engine = connect("ds4-tiny")
    assert "36" in said(engine.chat(SUM))
    first = pid_of(real)
    assert first != os.getpid()
    assert os.getsid(first) == first  # no terminal's Ctrl-C reaches it
    assert connect("ds4-tiny").count_tokens(SUM) == engine.count_tokens(SUM) > 5
    assert pid_of(real) == first
    assert "times" not in real.log.read_text()


@pytest.mark.slow
def test_ten_who_ask_at_once_start_one_host_and_all_get_answers(real: Place) -> None:
    clients = [client("print(said(connect('ds4-tiny').chat(SUM)))") for _ in range(10)]
    assert all("36" in (one.communicate()[0]) for one in clients)
    assert real.log.read_text().count(" serves ") == 1
    assert link_of(real).call("/status")["requests"]["answered"] == 10


@pytest.mark.slow
def test_ten_prompts_of_llm_at_once_on_a_cold_machine(
    real: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llm")
    code = (
        "import llm, llm_ds4\nfrom llm.plugins import pm\n"
        "pm.get_plugin('ds4') or pm.register(llm_ds4, name='ds4')\n"
        "print(llm.get_model('ds4-tiny').prompt('What is 3 times 12?', temperature=0).text())"
    )
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / "llm"))
    clients = [client(code) for _ in range(10)]
    assert all("36" in (one.communicate()[0]) for one in clients)
    assert real.log.read_text().count(" serves ") == 1


@pytest.mark.slow
def test_clients_that_are_killed_leave_nothing_behind(real: Place) -> None:
    connect("ds4-tiny")
    leave = "import os, signal\nfor event in connect('ds4-tiny').chat(LONG): os.kill(os.getpid(), signal.SIGKILL)"
    for one in [client(leave) for _ in range(3)]:
        assert one.wait() == -signal.SIGKILL
    until(lambda: link_of(real).call("/status")["requests"]["in_progress"] == 0)
    counts = link_of(real).call("/status")["requests"]
    assert counts == {"in_progress": 0, "answered": 0, "failed": 0, "cancelled": 3}
    until(lambda: connect("ds4-tiny").status().get("running", 0) == 0)
    assert "36" in said(connect("ds4-tiny").chat(SUM))


@pytest.mark.slow
def test_a_host_killed_in_the_middle_of_an_answer_is_told_and_the_next_request_works(real: Place) -> None:
    engine = connect("ds4-tiny")
    events = engine.chat(LONG)
    next(events)
    first = pid_of(real)
    os.kill(first, signal.SIGKILL)
    *_, last = events
    assert isinstance(last, Failed) and isinstance(last.error, HostError)
    assert "was lost in the middle of the answer" in str(last.error)
    assert "Ask again: a new host is started" in str(last.error)
    assert "36" in said(engine.chat(SUM))  # the same engine: whoever holds one need not connect again
    assert pid_of(real) != first


@pytest.mark.slow
def test_a_host_that_left_before_the_first_event_is_started_again(real: Place) -> None:
    engine = connect("ds4-tiny")
    os.kill(pid_of(real), signal.SIGKILL)
    *_, last = engine.chat(SUM)
    assert isinstance(last, End)
    os.kill(pid_of(real), signal.SIGTERM)
    assert engine.count_tokens(SUM) > 5


@pytest.mark.slow
def test_an_idle_host_ends_by_itself(real: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS4_BACKEND_KEEP_ALIVE", "0.5")
    said(connect("ds4-tiny").chat(SUM))
    until(lambda: not held(real))
    assert not answers(real)
    assert "no model was needed" in real.log.read_text()


@pytest.mark.slow
def test_what_a_stopped_host_has_read_is_on_the_disk_for_the_next(real: Place) -> None:
    text = "My name is Gertrude. " * 100
    request = Request((Message("user", text),), sampling=Sampling(temperature=0), max_tokens=2)
    list(connect("ds4-tiny").chat(request))
    os.kill(pid_of(real), signal.SIGTERM)
    until(lambda: not held(real))
    *_, end = connect("ds4-tiny").chat(request)
    assert isinstance(end, End)
    assert end.usage.cached_disk > 128


@pytest.mark.slow
def test_callers_in_one_place_take_turns_at_starting(real: Place) -> None:
    ensure(real)
    first = pid_of(real)
    ensure(real)
    assert pid_of(real) == first
