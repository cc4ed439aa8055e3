"""Which ops a model gets: what the user says, else by its size and the device."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from ds4_backend import settings
from ds4_backend.engine.running import LARGE_FILE, ops_for
from ds4_backend.ops import device

SMALL, LARGE = SimpleNamespace(nbytes=LARGE_FILE - 1), SimpleNamespace(nbytes=LARGE_FILE)


@pytest.mark.parametrize(("kind", "ops"), [("metal", "metal"), ("cuda", "cuda"), ("cpu", "mlx")])
def test_a_large_model_gets_the_kernels_of_the_gpu_that_is_there(kind, ops, monkeypatch):
    monkeypatch.setattr(device, "mlx_device", lambda: device.Device(kind, "any", 1, 1))
    now = replace(settings.load({}), ops="auto")
    assert ops_for(now, LARGE) == ops
    assert ops_for(now, SMALL) == "numpy"
    assert ops_for(replace(now, ops="mlx"), LARGE) == "mlx"
