from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import llm.plugins
import llm_ds4
import pytest
import sqlite_utils
from click.testing import CliRunner, Result
from llm.migrations import migrate
from llm.plugins import pm

# The models of OpenAI that come with llm: it makes all of them anew for each command, in half a second, and importing
# their client takes a second more. The tests that start a process of their own have them.
OPENAI = "llm.default_plugins.openai_models"
llm.plugins.DEFAULT_PLUGINS = tuple(name for name in llm.plugins.DEFAULT_PLUGINS if name != OPENAI)
pm.set_blocked(OPENAI)

# Under the name of its entry point, so that an installed copy is not loaded beside it; and before llm.cli is imported,
# which asks for commands at once.
if pm.get_plugin("ds4") is None:
    pm.register(llm_ds4, name="ds4")


@pytest.fixture(scope="session")
def empty_logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """llm's log database with every migration done and nothing in it; making one takes a second."""
    path = tmp_path_factory.mktemp("llm") / "logs.db"
    database = sqlite_utils.Database(path)
    migrate(database)
    database.close()
    return path


@pytest.fixture(autouse=True)
def llm_home(tmp_path: Path, empty_logs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty llm home and no settings of the user's."""
    home = tmp_path / "llm"
    home.mkdir()
    shutil.copy(empty_logs, home / "logs.db")
    monkeypatch.setenv("LLM_USER_PATH", str(home))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("DS4_BACKEND_CONFIG", "DS4_BACKEND_MODELS_DIR", "DS4_BACKEND_OPS"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def run() -> Callable[..., Result]:
    """Runs the llm command line in this process."""
    from llm.cli import cli

    def invoke(*arguments: str, input: str | None = None) -> Result:
        return CliRunner().invoke(cli, list(arguments), input=input)

    return invoke
