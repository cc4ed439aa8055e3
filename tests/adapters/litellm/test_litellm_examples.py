"""The examples: scripts that run against the real proxy with ds4-tiny, and agents' settings that fit its config."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ds4_backend.cli.proxy import KEY as KEY_VARIABLE
from ds4_backend.cli.proxy import command

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "litellm"
AGENTS = EXAMPLES / "agents"
PORT = next(option.default for option in command.params if option.name == "port")


def models() -> set[str]:
    config = yaml.safe_load((EXAMPLES / "config.yaml").read_text(encoding="utf-8"))
    return {entry["model_name"] for entry in config["model_list"]}


def read_json(name: str) -> dict[str, Any]:
    return dict(json.loads((AGENTS / name).read_text(encoding="utf-8")))


def test_claude_codes_settings_name_the_proxy_and_its_models() -> None:
    env = read_json("claude-code.settings.json")["env"]
    assert all(isinstance(value, str) for value in env.values())
    assert env["ANTHROPIC_BASE_URL"] == f"http://127.0.0.1:{PORT}"
    assert {value for name, value in env.items() if name.endswith("_MODEL")} <= models()
    assert int(env["API_TIMEOUT_MS"]) >= 3_600_000


def test_opencodes_settings_name_the_proxy_and_its_models() -> None:
    settings = read_json("opencode.json")
    ((provider, found),) = settings["provider"].items()
    assert found["options"] == {"baseURL": f"http://127.0.0.1:{PORT}/v1", "apiKey": f"{{env:{KEY_VARIABLE}}}"}
    assert set(found["models"]) <= models()
    for chosen in (settings["model"], settings["small_model"]):
        name, _, model = chosen.partition("/")
        assert name == provider
        assert model in found["models"]


def test_codexs_settings_name_the_proxy_and_its_models() -> None:
    settings = tomllib.loads((AGENTS / "codex.config.toml").read_text(encoding="utf-8"))
    provider = settings["model_providers"][settings["model_provider"]]
    assert settings["model"] in models()
    assert provider["base_url"] == f"http://127.0.0.1:{PORT}/v1"
    assert (provider["env_key"], provider["wire_api"]) == (KEY_VARIABLE, "responses")


def test_cursors_settings_name_the_models() -> None:
    settings = read_json("cursor.json")
    assert set(settings["Models"]) <= models()
    assert settings["Override OpenAI Base URL"].startswith("https://")  # its servers call it, not the editor


@pytest.mark.slow
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_the_script_calls_a_tool_and_streams_an_answer(proxy: str, sdk: str) -> None:
    base = f"{proxy}/v1" if sdk == "openai" else proxy
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{sdk}_sdk.py"), "ds4-tiny"],
        env=os.environ | {f"{sdk.upper()}_BASE_URL": base, f"{sdk.upper()}_API_KEY": "sk-test"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, call, second, answer, *rest = done.stdout.splitlines()
    assert first.endswith("prompt tokens were not read again]")
    assert call.startswith("get_weather(") and call.endswith("-> sunny, 18 C")
    cached, total = (int(word) for word in second.strip("[").split() if word.isdigit())
    assert cached >= total // 2  # the second turn went on from the first
    assert "18 C" in answer
    assert "36" in "".join(rest)
