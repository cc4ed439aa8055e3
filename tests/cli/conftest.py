"""A folder with a random tiny checkpoint, and a runner of commands that sees no settings of the user's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

sys.path.append(str(Path(__file__).parents[1] / "convert"))
from checkpoint_maker import make_folder, official_config, random_weights

from ds4_backend.cli import main

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    config = official_config(head_dim=72)  # 64 channels beside the rotary 8: what the cache simulation rounds
    return make_folder(tmp_path_factory.mktemp("checkpoint") / "tiny", config, random_weights(config))


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    """Runs `ds4-backend` with the given words; everything it may write lies below tmp_path."""
    for name in ("models", "cache", "state"):
        monkeypatch.setenv(f"DS4_BACKEND_{name.upper()}_DIR", str(tmp_path / name))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DS4_BACKEND_TRACEBACK", raising=False)
    return lambda *words: CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="session")
def model_file(checkpoint, tmp_path_factory) -> Path:
    from ds4_backend.convert import convert

    out = tmp_path_factory.mktemp("model") / "tiny.gguf"
    convert(checkpoint, out, "q8", dialect="0731", cache_simulation=False)
    return out
