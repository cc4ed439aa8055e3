"""A home of its own for the relay: one resident host, one proxy in front of it, and llm's command line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from relay_home import KEY, stop

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "examples" / "litellm" / "config.yaml"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty home; the host that is started with its settings has ended afterwards."""
    folder = tmp_path_factory.mktemp("relay")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("STATE", "CACHE", "MODELS"):
            patch.setenv(f"DS4_BACKEND_{name}_DIR", str(folder / name.lower()))
        for name in ("DS4_BACKEND_CONFIG", "DS4_BACKEND_OPS", "DS4_BACKEND_TOKEN", "LC_OUTPUT_VERSION"):
            patch.delenv(name, raising=False)
        patch.setenv("HOME", str(folder))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        patch.setenv("LLM_USER_PATH", str(folder / "llm"))
        patch.setenv("DS4_BACKEND_HOST", "auto")
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        patch.setenv("LITELLM_MASTER_KEY", KEY)
        paths = [str(ROOT), str(ROOT / "plugins"), str(ROOT / "adapters"), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        yield folder
        stop()


@pytest.fixture(scope="module")
def proxy(home: Path) -> Iterator[Callable[[], str]]:
    """LiteLLM's proxy with the example's config file, started now; call it for the address once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
    command = [sys.executable, "-m", "ds4_backend.cli", "proxy", "--config", str(CONFIG), "--port", str(port)]
    with (home / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=home, stdout=log, stderr=log, start_new_session=True)

    def address() -> str:
        while not _alive(port):
            if process.poll() is not None:
                pytest.fail(f"the proxy ended:\n{(home / 'proxy.log').read_text()[-3000:]}")
            time.sleep(0.5)
        return f"http://127.0.0.1:{port}"

    yield address
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def _alive(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def llm(home: Path) -> Callable[..., str]:
    """llm's command line in a process of its own: `llm("-m", "ds4-tiny", ...)` gives what it prints."""
    lead = "import llm_ds4; from llm.plugins import pm; pm.get_plugin('ds4') or pm.register(llm_ds4, name='ds4')\n"
    command = [sys.executable, "-c", lead + "from llm.cli import cli; cli()"]

    def run(*words: str) -> str:
        done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=home)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
