"""Puts this folder on the path, so that tests can share helpers such as `random_model`, and keeps tests away from the
user's own cache, state and config, and from hosts: models run in the process of the test unless it says otherwise."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory):
    """Every test, and every process it starts, uses folders of this run."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CACHE", "STATE"):
            patch.setenv(f"DS4_BACKEND_{name}_DIR", str(tmp_path_factory.mktemp(name.lower())))
        patch.setenv("DS4_BACKEND_HOST", "off")
        yield


@pytest.fixture(scope="module", autouse=True)
def no_engine_left():
    """Engines are shared within a process: one that a file leaves open would answer the next file's questions."""
    yield
    module = sys.modules.get("ds4_backend.engine.running")
    if module is not None:
        module.close_all()
