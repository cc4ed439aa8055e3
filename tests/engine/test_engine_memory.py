"""A closed engine gives back what its model held, MLX's own store of freed memory with it."""

from __future__ import annotations

import gc

import mlx.core as mx
import pytest

from ds4_backend.engine.running import running
from ds4_backend.types import End, Message, Request, Sampling


@pytest.fixture
def on_mlx(monkeypatch):
    monkeypatch.setenv("DS4_BACKEND_OPS", "mlx")
    monkeypatch.setenv("DS4_BACKEND_CACHE", "off")


def test_closing_an_engine_gives_back_the_memory_of_its_model(on_mlx):
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    engine = running("ds4-tiny")
    request = Request((Message("user", "Hi"),), thinking=False, sampling=Sampling(temperature=0.0), max_tokens=1)
    assert isinstance(list(engine.chat(request))[-1], End)
    assert mx.get_active_memory() - before > 10 << 20
    engine.close()
    assert mx.get_active_memory() - before < 1 << 20
    assert mx.get_cache_memory() == 0
    assert engine.status()["model"] == "ds4-tiny"
    engine.close()
