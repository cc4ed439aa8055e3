"""The picture of the time to the first token: its figures are measured, its lines are drawn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_measures_and_draws(tmp_path: Path) -> None:
    out = tmp_path / "drawn.svg"
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    own = {"PYTHONPATH": paths, "DS4_BACKEND_STATE_DIR": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    script = str(ROOT / "examples" / "first_token" / "draw.py")
    done = subprocess.run(
        [sys.executable, script, "--prompts", "600,900", "--out", str(out)],
        env=os.environ | own,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^ +([\d,]+) +([\d.]+) +([\d.]+) +([\d.]+)  ([\d,]+), ([\d,]+)$", done.stdout, re.MULTILINE)
    assert len(rows) == 2
    for prompt, _, _, _, memory, disk in rows:
        tokens, in_memory, on_disk = (int(number.replace(",", "")) for number in (prompt, memory, disk))
        assert in_memory == tokens - 1 and tokens - 128 <= on_disk < tokens
    assert out.read_text().count("<polyline") == 5
    assert ElementTree.parse(out).getroot().tag.endswith("svg")
