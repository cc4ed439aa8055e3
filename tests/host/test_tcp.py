"""The TCP listener: a token, generation, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from host_fakes import HELLO, said

from ds4_backend.connect import connect
from ds4_backend.engine.scripted import ScriptedEngine
from ds4_backend.errors import HostError, NotInstalled, SettingsError, UnknownModel
from ds4_backend.host.link import link_to
from ds4_backend.types import End, TextDelta

Start = Callable[..., Any]
ANSWER = (TextDelta("hi"), End("stop"))


@pytest.fixture
def address(start: Start) -> str:
    """A listener whose token is `secret` and whose models are `m` and one that is not installed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def find(model: str) -> str:
        if model == "absent":
            raise NotInstalled("absent is registered as /home/someone/absent.gguf, and there is no such file")
        return model

    start({"m": ScriptedEngine(ANSWER)}, tcp=("127.0.0.1", port), token="secret", find=find)
    return f"http://127.0.0.1:{port}"


def test_who_knows_the_token_gets_answers(address: str) -> None:
    engine = connect("m", address=address, token="secret")
    assert engine.count_tokens(HELLO) == 1
    assert said(engine.chat(HELLO)) == "hi"


def test_its_status_tells_nothing_of_the_machine(address: str) -> None:
    engine = connect("m", address=address, token="secret")
    assert engine.status() == {"model": "m", "host": {"address": address}}


def test_the_token_may_be_a_setting(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS4_BACKEND_TOKEN", "secret")
    monkeypatch.setenv("DS4_BACKEND_HOST", address)
    assert said(connect("m").chat(HELLO)) == "hi"


def test_a_wrong_token_gets_nothing(address: str) -> None:
    for token in ("Secret", "secret2", "s", "sécret"):
        headers = {"authorization": f"Bearer {token}".encode(), "ds4-protocol": "1"}
        for path in ("/chat", "/load", "/count_tokens"):
            answer = httpx.post(address + path, json={"model": "m"}, headers=headers)
            assert answer.status_code == 401
            assert "token is missing or wrong" in answer.json()["error"]["text"]
    assert httpx.get(address + "/models", headers={"ds4-protocol": "1"}).status_code == 401


def test_the_clients_own_mistake_is_told(address: str) -> None:
    with pytest.raises(HostError, match="set DS4_BACKEND_TOKEN"):
        connect("m", address=address, token="wrong")
    with pytest.raises(SettingsError, match="asks for a token"):
        connect("m", address=address)
    with pytest.raises(SettingsError, match="visible ASCII characters"):
        connect("m", address=address, token="two words")


def test_nothing_but_generation_is_there(address: str) -> None:
    link = link_to(address, "secret")
    for path in ("/stop", "/models/unload", "/status", "/hello"):
        for body in (None, {"grace": 0}):
            with pytest.raises(HostError):
                link.call(path, body)
    assert connect("m", address=address, token="secret").count_tokens(HELLO) == 1


def test_a_path_is_no_name_of_a_model(address: str) -> None:
    for path in ("/etc/model.gguf", "../m.gguf", "m.gguf", "a/b"):
        with pytest.raises(UnknownModel, match="is a path; over TCP a model is asked for by its name"):
            next(link_to(address, "secret").lines("/load", {"model": path}))


def test_folders_of_the_hosts_machine_are_not_told(address: str) -> None:
    with pytest.raises(NotInstalled) as refused:
        connect("absent", address=address, token="secret")
    assert str(refused.value) == "absent is not installed on the host's machine"


def test_the_names_of_the_models_are_listed(address: str) -> None:
    assert "ds4-tiny" in link_to(address, "secret").call("/models")["models"]


@pytest.mark.parametrize("wrong", ["ftp://x", "unix://relative", "127.0.0.1:80", "unix:"])
def test_an_address_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match="is no host's address"):
        link_to(wrong, "secret")
