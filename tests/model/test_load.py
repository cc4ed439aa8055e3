"""Loading and unloading: what is refused before a weight is read, and that the memory comes back."""

from __future__ import annotations

import gc
from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from ds4_backend.errors import DoesNotFit, EngineError
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.gguf.shapes import TINY, first_layers
from ds4_backend.measure.synth import write_random
from ds4_backend.model import load, load_model
from ds4_backend.ops import device


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("load") / "tiny.gguf"
    write_random(first_layers(TINY, 2), "q8", path, jobs=1)
    return path


def test_both_ops_give_the_same_logits_and_progress_counts_layers(file):
    seen, logits = [], []
    for ops in ("numpy", "mlx"):
        model = load_model(file, ops=ops, cache_simulation=False, progress=lambda *at: seen.append(at))
        sequence = model.new_sequence()
        logits.append(model.forward([(sequence, [1, 2, 3])]))
    assert seen == [(1, 2), (2, 2)] * 2
    np.testing.assert_allclose(*logits, atol=2e-4)


def test_a_released_model_gives_its_memory_back_and_runs_no_more(file):
    gc.collect()
    mx.clear_cache()
    before = mx.get_active_memory()
    model = load_model(file, ops="mlx")
    sequence = model.new_sequence()
    model.forward([(sequence, [1, 2, 3])])
    assert mx.get_active_memory() - before > file.stat().st_size // 2
    sequence.release()
    del sequence
    model.release()
    assert mx.get_active_memory() - before < 1 << 20  # tables of constants stay
    assert mx.get_cache_memory() == 0
    model.release()
    with pytest.raises(EngineError, match="released"):
        model.forward([])


def test_a_file_that_the_device_cannot_hold_is_refused_before_it_is_read(file, monkeypatch):
    small = device.Device("metal", "a Mac", 8 << 20, 4 << 20)
    monkeypatch.setattr(device, "mlx_device", lambda: small)
    monkeypatch.setattr(device, "SMALL", 0)
    monkeypatch.setattr(load, "make_ops", None)
    with open_gguf(file) as opened, pytest.raises(DoesNotFit, match="macOS lets it hold"):
        load_model(opened, ops="mlx")


def test_a_model_whose_float32_form_is_too_large_is_refused_by_the_numpy_ops(file, monkeypatch):
    monkeypatch.setattr(device, "SMALL", 0)
    monkeypatch.setattr(device, "host_memory", lambda: 1 << 20)
    with pytest.raises(DoesNotFit, match=r"float32: 0\.\d GiB for this model, .* has 0\.0 GiB.*`ops` = auto"):
        load_model(file)


def test_nothing_is_wired_for_a_small_model(monkeypatch):
    calls = []
    monkeypatch.setattr(mx, "set_wired_limit", calls.append)
    mac = device.Device("metal", "a Mac", 96 << 30, 90 << 30)
    device.keep_resident(13 << 20, mac)
    assert calls == []
    device.keep_resident(80 << 30, mac)
    device.keep_resident(80 << 30, replace(mac, limit=81 << 30))
    device.keep_resident(80 << 30, replace(mac, kind="cuda"))
    assert calls == [82 << 30, 81 << 30]
