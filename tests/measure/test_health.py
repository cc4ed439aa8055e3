"""The doctor's checks: what is right passes, what is wrong is found and named, and nothing raises."""

from __future__ import annotations

import pytest

import ds4_backend.ops
from ds4_backend import catalog
from ds4_backend.measure import health, room
from ds4_backend.measure.compare import Result
from ds4_backend.ops.device import GIB, Device

CPU = Device("cpu", "a processor", 24 * GIB, 24 * GIB)
MAC = Device("metal", "Apple M3 Max", 128 * GIB, 96 * GIB)
SMALL_MAC = Device("metal", "Apple M4", 64 * GIB, 48 * GIB)


def result(ok, case="csa q2 simulated forced", error=1e-5, trouble=""):
    return Result(case, "decode", 0.9, 0.9, error, 1e-3, ok, trouble)


def test_a_gpu_is_checked_with_its_own_ops_and_the_safety_net():
    assert health.ops_here(MAC) == ["metal", "mlx"]
    assert health.ops_here(CPU) == ["mlx"]


@pytest.mark.slow
def test_the_mlx_ops_pass_on_this_machine():
    check = health.arithmetic("mlx", CPU)
    assert check.ok, check


def test_ops_that_differ_are_named_with_the_worst_case(monkeypatch):
    monkeypatch.setattr(health, "compare", lambda case, ops, base: [result(case.kind != "hca", str(case), 0.3)])
    check = health.arithmetic("metal", MAC)
    assert check.ok is False and "3 of 9 comparisons" in check.text and "hca" in check.text
    assert "relative error 3.0e-01, allowed 2.0e-03" in check.text
    assert check.advice.startswith("set `ops` to mlx")
    monkeypatch.setattr(health, "compare", lambda case, ops, base: [result(False, trouble="RuntimeError: no kernel")])
    assert "RuntimeError: no kernel" in health.arithmetic("mlx", CPU).text


def test_kernels_that_test_themselves_are_asked(monkeypatch):
    monkeypatch.delattr(ds4_backend.ops, "self_tests", raising=False)
    assert health.bodies("metal") is None
    tests = [("attend", 1e-6, True), ("top_k", 0.5, False)]
    monkeypatch.setattr(ds4_backend.ops, "self_tests", lambda ops: tests, raising=False)
    check = health.bodies("metal")
    assert check.ok is False and "1 of 2 differ" in check.text and "top_k (error 5.0e-01)" in check.text
    tests.pop()
    assert health.bodies("metal").ok


def test_an_exception_is_a_finding():
    def breaks():
        raise RuntimeError("the driver is gone")

    (check,) = health.guarded("unloading", breaks)
    assert check.ok is False and check.text == "RuntimeError: the driver is gone"
    assert list(health.guarded("nothing", lambda: None)) == []


def test_the_memory_of_an_unloaded_model_is_seen_to_come_back():
    check = health.unloading(catalog.resolve("ds4-tiny"), "mlx")
    assert check.ok, check


def test_the_prompt_cache_is_asked_and_a_broken_one_is_not_fatal(tmp_path, monkeypatch):
    assert health.prompt_cache(tmp_path / "none", None).ok is None
    (tmp_path / "prompts").mkdir()
    assert health.prompt_cache(tmp_path / "prompts", 1 << 30).ok
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    check = health.prompt_cache(blocked, None)
    assert check.ok is False and "cannot be used" in check.text


def test_context_is_what_fits_beside_the_weights():
    fits = {fit.build: fit for fit in room.fits(MAC)}
    assert fits["q2"].fits and 1_000_000 < fits["q2"].context <= room.LONGEST
    assert not fits["q4"].fits and fits["q4"].possible == 0
    # model.md: 6,885,625,856 bytes for a million tokens
    limit = 86_720_111_488 + room.ACTIVATIONS + 6_885_625_856
    assert room.context_beside(86_720_111_488, limit) == pytest.approx(1_000_000, rel=0.002)
    assert room.context_beside(100, 50) == 0


def test_a_limit_that_stands_in_the_way_is_named_with_its_command():
    tight = Device("metal", "Apple M3 Max", 96 * GIB, 72 * GIB)
    fits = room.fits(tight)
    q2 = next(fit for fit in fits if fit.build == "q2")
    assert not q2.fits and q2.possible > 100_000
    (advice,) = room.settings_to_change(tight, fits)
    assert "sudo sysctl iogpu.wired_limit_mb=" in advice and "q2" in advice
    megabytes = int(advice.rpartition("=")[2])
    assert 86_720_111_488 / 2**20 < megabytes <= 90 * 1024
    assert room.settings_to_change(SMALL_MAC, room.fits(SMALL_MAC)) == []


def test_a_machine_without_a_gpu_and_a_busy_card_get_advice():
    assert "no GPU" in room.settings_to_change(CPU, room.fits(CPU))[0]
    busy = Device("cuda", "H200", 139 * GIB, 132 * GIB, 60 * GIB)
    assert "79.0 GiB of H200's memory are in use" in room.settings_to_change(busy, room.fits(busy))[0]
