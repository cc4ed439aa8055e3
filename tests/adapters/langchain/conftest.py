from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def no_settings_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("DS4_BACKEND_CONFIG", "DS4_BACKEND_MODELS_DIR", "DS4_BACKEND_OPS", "LC_OUTPUT_VERSION"):
        monkeypatch.delenv(name, raising=False)
