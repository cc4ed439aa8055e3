"""The benchmark of the front ends: it measures all three, and says it as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_front_ends_import_and_tokens_are_measured() -> None:
    for name in ("llm", "litellm", "langchain_core"):
        pytest.importorskip(name)
    command = [sys.executable, str(ROOT / "benchmarks" / "adapters.py"), "--tokens", "50", "--repeat", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["imports"].keys() == {"llm", "litellm", "langchain"}
    assert all(0 < row["ours"] < row["host"] for row in report["imports"].values())
    for name in ("llm", "litellm", "langchain"):
        ways = report["tokens"][name]
        assert report["tokens"]["engine"]["alone"] < ways["mapping"] < ways["host"] and ways["host, async"] > 0
