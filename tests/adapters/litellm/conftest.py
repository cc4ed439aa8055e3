"""The real proxy, started once for all test processes; and litellm, imported only by tests that run.

Importing litellm takes ten seconds and its proxy thirty, so whatever needs either is marked slow and imports it in a
fixture.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from filelock import FileLock

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CONFIG = ROOT / "examples" / "litellm" / "config.yaml"
KEY = "sk-test"


@pytest.fixture(scope="session")
def litellm() -> ModuleType:
    """litellm with our provider in it."""
    _skip_without_litellm()
    import_module("litellm_ds4").register()  # before litellm: it keeps that from asking the network for prices
    return import_module("litellm")


@pytest.fixture(scope="session")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the proxy with the example's config file, and three scripted models beside it."""
    _skip_without_litellm()
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "litellm-proxy"
    folder.mkdir(exist_ok=True)
    state, lock = folder / "state.json", FileLock(folder / "lock")
    with lock:
        now = json.loads(state.read_text()) if state.exists() else _started(folder)
        state.write_text(json.dumps(now | {"users": now["users"] + 1}))
    yield f"http://127.0.0.1:{now['port']}"
    with lock:
        left = json.loads(state.read_text())
        left["users"] -= 1
        state.write_text(json.dumps(left))
        if not left["users"]:
            os.kill(left["pid"], signal.SIGKILL)  # asked to end, it would wait for answers that never do
            state.unlink()


@pytest.fixture(scope="session")
def openai_client(proxy: str) -> Any:
    import openai

    return openai.OpenAI(base_url=f"{proxy}/v1", api_key=KEY, max_retries=0)


@pytest.fixture(scope="session")
def anthropic_client(proxy: str) -> Any:
    import anthropic

    return anthropic.Anthropic(base_url=proxy, api_key=KEY, max_retries=0)


def _skip_without_litellm() -> None:
    if find_spec("litellm") is None:
        pytest.skip("litellm is not installed")


def _started(folder: Path) -> dict[str, int]:
    port = _free_port()
    (folder / "config.yaml").write_text(yaml.safe_dump(_config()), encoding="utf-8")
    command = [sys.executable, "-m", "ds4_backend.cli", "proxy", "--config", "config.yaml", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=_environment(folder), stdout=log, stderr=log, start_new_session=True
        )
    while process.poll() is None and not _alive(port):
        time.sleep(0.5)
    if process.returncode is not None:
        pytest.fail(f"the proxy ended with {process.returncode}:\n{(folder / 'log').read_text()[-3000:]}")
    return {"port": port, "pid": process.pid, "users": 0}


def _config() -> dict[str, Any]:
    """The example's file, with models that only tests have."""
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    tiny = next(entry for entry in config["model_list"] if entry["model_name"] == "ds4-tiny")
    for group, model, more in (
        ("scripted", "scripted", {}),
        ("with-settings", "scripted", {"ds4_priority": 3, "ds4_keep_alive": 60, "ds4_private": True}),
        *(("several", host, {"api_base": host}) for host in ("host-a", "host-b", "host-c")),
    ):
        params = tiny["litellm_params"] | {"model": f"ds4/{model}"} | more
        config["model_list"].append({"model_name": group, "litellm_params": params, "model_info": tiny["model_info"]})
    config["litellm_settings"]["callbacks"].append("scripted_proxy.callback")
    return config


def _environment(folder: Path) -> dict[str, str]:
    folders = {name: str(folder / name) for name in ("home", "cache", "state")}
    paths = (ROOT, ROOT / "adapters", HERE, os.environ.get("PYTHONPATH", ""))
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(str(path) for path in paths if str(path)),
        "HOME": folders["home"],
        "XDG_CONFIG_HOME": folders["home"],
        "DS4_BACKEND_CACHE_DIR": folders["cache"],
        "DS4_BACKEND_STATE_DIR": folders["state"],
        "DS4_BACKEND_HOST": "off",
        "LITELLM_MASTER_KEY": KEY,
        "OPENBLAS_NUM_THREADS": "1",
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _alive(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
