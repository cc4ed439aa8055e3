"""`doctor`: its verdict is its exit status."""

from __future__ import annotations

import json

import pytest

from ds4_backend.measure import health
from ds4_backend.measure.health import Check


@pytest.fixture
def quick(monkeypatch):
    """No networks are run; what `good` says is the outcome."""

    def outcome(good):
        check = Check("mlx ops", good, "compared", "" if good else "set `ops` to numpy")
        monkeypatch.setattr(health, "arithmetic", lambda *given: check)
        monkeypatch.setattr(health, "unloading", lambda *given: Check("unloading", True, "came back"))

    return outcome


def test_a_good_machine_ends_with_0_and_says_what_fits(quick, run):
    quick(True)
    result = run("doctor")
    assert result.exit_code == 0, result.output
    assert "good  mlx ops: compared" in result.output and "good  unloading" in result.output
    assert "mxfp4" in result.output and "does not fit" in result.output


def test_wrong_arithmetic_ends_with_1_and_says_what_to_do(quick, run):
    quick(False)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["ok"] is False and "set `ops` to numpy" in told["advice"]
    assert {check["name"] for check in told["checks"]} >= {"mlx ops", "unloading", "prompt cache"}
    assert told["device"]["kind"] and told["fits"][0]["build"] == "mxfp4"
