"""`ds4-backend proxy` and the config file that it starts; the proxy itself is in the other files here."""

from __future__ import annotations

import os
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from ds4_backend.cli import main
from ds4_backend.cli import proxy as command

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "litellm"
CONFIG = EXAMPLES / "config.yaml"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What would have become of this process; and a folder of its own to be in."""
    calls: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda path, arguments: calls.append(arguments))
    monkeypatch.setattr(command, "find_spec", lambda name: object())
    monkeypatch.delenv("LITELLM_MASTER_KEY", raising=False)
    monkeypatch.setenv(command.NO_KEY, "")  # so that what the command sets is taken back after the test
    monkeypatch.delenv(command.NO_KEY)
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    monkeypatch.chdir(tmp_path)
    return calls


def proxy(*words: str) -> Result:
    return CliRunner().invoke(main, ["proxy", *words])


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def test_it_starts_litellm_with_the_example_file_on_this_machine_only(started: list[list[str]]) -> None:
    port = free_port()
    result = proxy("--port", port)
    assert result.exit_code == 0
    (arguments,) = started
    assert arguments[0] == sys.executable
    assert arguments[-8:] == ["--config", str(CONFIG), "--host", "127.0.0.1", "--port", port, "--telemetry", "False"]
    assert f"http://127.0.0.1:{port}" in result.output


def test_a_config_file_beside_it_or_a_given_one_comes_before_the_example(
    started: list[list[str]], tmp_path: Path
) -> None:
    Path("litellm.yaml").write_text("model_list: []\n")
    proxy("--port", free_port())
    (tmp_path / "other.yaml").write_text("model_list: []\n")
    proxy("--port", free_port(), "--config", "other.yaml", "--debug")
    assert [arguments[arguments.index("--config") + 1] for arguments in started] == ["litellm.yaml", "other.yaml"]
    assert started[1][-1] == "--debug"


def test_it_prints_the_file_to_begin_with() -> None:
    assert proxy("--show-config").stdout == CONFIG.read_text(encoding="utf-8")


def test_without_the_extra_it_says_what_to_install_and_under_which_licence(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name in ("litellm", "fastapi") else object())
    result = proxy()
    assert result.exit_code == 1
    assert "litellm, fastapi" in result.output
    assert "pip install 'ds4-backend[proxy]'" in result.output
    assert "proprietary" in result.output
    assert started == []


def test_a_port_that_is_taken_is_refused_before_litellm_takes_another(started: list[list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = proxy("--port", str(port))
    assert result.exit_code == 1
    assert f"port {port} of 127.0.0.1" in result.output
    assert started == []


def test_other_machines_are_served_only_with_a_key(started: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    refused = proxy("--host", "0.0.0.0", "--port", free_port())
    assert refused.exit_code == 1
    assert "LITELLM_MASTER_KEY" in refused.output
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-1")
    assert proxy("--host", "0.0.0.0", "--port", free_port()).exit_code == 0


def test_without_a_key_it_serves_this_machine_and_says_so(started: list[list[str]]) -> None:
    result = proxy("--port", free_port())
    assert "LITELLM_MASTER_KEY is not set: whatever runs on this machine may ask, with any key" in result.output
    assert os.environ[command.NO_KEY] == "true"  # or LiteLLM would refuse to start


def test_with_a_key_litellm_keeps_its_own_check(started: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-1")
    assert "is not set" not in proxy("--port", free_port()).output
    assert command.NO_KEY not in os.environ


def test_a_config_file_that_is_not_there_is_named(started: list[list[str]]) -> None:
    result = proxy("--config", "nowhere.yaml")
    assert result.exit_code == 1
    assert "nowhere.yaml" in result.output


def config() -> dict[str, Any]:
    return dict(yaml.safe_load(CONFIG.read_text(encoding="utf-8")))


def test_every_model_of_the_example_takes_reasoning_costs_nothing_and_has_time() -> None:
    names = {entry["model_name"]: entry for entry in config()["model_list"]}
    assert set(names) == {"ds4-flash", "ds4-flash-fast", "ds4-tiny"}
    for entry in names.values():
        assert entry["litellm_params"]["model"].startswith("ds4/")
        assert entry["litellm_params"]["allowed_openai_params"] == ["reasoning_effort", "thinking"]
        assert entry["litellm_params"]["timeout"] >= 3600
        costs = [value for name, value in entry["model_info"].items() if "cost" in name]
        assert costs == [0, 0, 0, 0]


@pytest.mark.skipif(find_spec("litellm_ds4") is None, reason="the adapter is not on the path")
def test_the_example_names_things_that_the_adapter_has() -> None:
    settings = config()["litellm_settings"]
    (provider,) = settings["custom_provider_map"]
    assert provider == {"provider": "ds4", "custom_handler": "litellm_ds4.handler"}
    source = (EXAMPLES.parents[1] / "adapters" / "litellm_ds4" / "__init__.py").read_text(encoding="utf-8")
    for named in (provider["custom_handler"], *settings["callbacks"]):
        package, _, name = named.partition(".")
        assert package == "litellm_ds4"
        assert f"\n{name} = " in source
