"""LiteLLM's SDK with a model on another host: `api_base` is its address, `api_key` its token."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # importing litellm takes ten seconds, and the host some more

TOKEN = "0123456789abcdef" * 3
QUESTION = [{"role": "user", "content": "What is 3 times 12?"}]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a host that serves ds4-tiny over TCP."""
    folder = tmp_path_factory.mktemp("host")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    own = {f"DS4_BACKEND_{name}_DIR": str(folder / name.lower()) for name in ("CACHE", "STATE")}
    root = Path(__file__).resolve().parents[3]
    paths = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-m", "ds4_backend.cli", "serve", "--tcp", f"127.0.0.1:{port}", "-m", "ds4-tiny"],
        env=os.environ | own | {"DS4_BACKEND_TOKEN": TOKEN, "PYTHONPATH": paths},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None and not _listens(port):
            time.sleep(0.1)
        assert process.returncode is None, "the host ended"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True


def ask(litellm: ModuleType, host: str, token: str = TOKEN, **more: Any) -> Any:
    given = {"model": "ds4/tiny", "messages": QUESTION, "temperature": 0, "num_retries": 0}
    return litellm.completion(api_base=host, api_key=token, **given | more)


def test_it_answers_whole_and_streamed(litellm: ModuleType, host: str) -> None:
    assert "36" in ask(litellm, host).choices[0].message.content
    pieces = [chunk.choices[0].delta.content or "" for chunk in ask(litellm, host, stream=True)]
    assert "36" in "".join(pieces)


def test_its_refusals_keep_their_status(litellm: ModuleType, host: str) -> None:
    with pytest.raises(litellm.ContextWindowExceededError, match="2,000,000"):
        ask(litellm, host, max_tokens=2_000_000)
    with pytest.raises(litellm.NotFoundError, match="no model 'nope'"):
        ask(litellm, host, model="ds4/nope")
    with pytest.raises(litellm.ServiceUnavailableError, match="token is missing or wrong"):
        ask(litellm, host, token="wrong" * 10)


def test_a_host_that_is_not_there_is_unavailable(litellm: ModuleType) -> None:
    with pytest.raises(litellm.ServiceUnavailableError, match="no host answers"):
        ask(litellm, "http://127.0.0.1:1")
