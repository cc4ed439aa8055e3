"""The standard tests of LangChain hold coroutines without a mark: they get one here, and no other test does."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True, trylast=True)  # inside pytest-asyncio's own wrapper, which looks for the mark
def pytest_pycollect_makeitem() -> Iterator[None]:
    made: Any = yield
    for item in made if isinstance(made, list) else [made]:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.add_marker("asyncio")
    return made


@pytest.fixture(autouse=True)
def no_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("DS4_BACKEND_CONFIG", "DS4_BACKEND_MODELS_DIR", "DS4_BACKEND_OPS", "LC_OUTPUT_VERSION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DS4_BACKEND_HOST", "off")
