"""The tour of llm runs to its end, and what it promises on the way happens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "examples" / "llm" / "tour.sh"
PLUGIN = "import llm_ds4; from llm.plugins import pm; pm.get_plugin('ds4') or pm.register(llm_ds4, name='ds4')\n"
LLM = f"#!{sys.executable}\n{PLUGIN}from llm.cli import cli\ncli(prog_name='llm')\n"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An empty home, with an `llm` on the path that has the plugin; its host has ended afterwards."""
    pytest.importorskip("llm")
    command = tmp_path / "bin" / "llm"
    command.parent.mkdir()
    command.write_text(LLM)
    command.chmod(0o755)
    paths = (ROOT, ROOT / "plugins", ROOT / "adapters", os.environ.get("PYTHONPATH", ""))
    own = {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "LLM_USER_PATH": str(tmp_path / "llm"),
        "DS4_BACKEND_HOST": "auto",
        "DS4_BACKEND_STATE_DIR": str(tmp_path / "state"),
        "DS4_BACKEND_CACHE_DIR": str(tmp_path / "cache"),
        "DS4_BACKEND_MODELS_DIR": str(tmp_path / "models"),
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(str(path) for path in paths if str(path)),
    }
    environment = {name: value for name, value in os.environ.items() if name != "MODEL"} | own
    yield environment
    subprocess.run([sys.executable, "-m", "ds4_backend.cli", "stop", "--grace", "0"], env=environment, check=True)


@pytest.mark.slow
def test_the_tour_of_llm_runs_to_its_end(environment: dict[str, str]) -> None:
    done = subprocess.run(["bash", str(TOUR)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "36" in done.stdout
    assert "Your name is Gertrude" in done.stdout
    assert "sunny and 18 degrees" in done.stdout
    dog = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"name"')))
    assert dog.keys() == {"name", "age"}
    assert re.search(r"^(yes|no)$", done.stdout, re.MULTILINE)
    first, second = re.findall(r"Token usage: ([\d,]+) input.*?(?:\"cached\": (\d+)|\n)", done.stderr)
    assert first[1] == "" and int(second[1]) > 0.9 * int(second[0].replace(",", ""))  # the file was not read again
    assert "ds4-tiny: loaded" in done.stdout and "hit ratio" in done.stdout


def test_every_command_of_the_tour_is_shown_before_it_runs() -> None:
    text = TOUR.read_text(encoding="utf-8")
    assert text.index("set -x") < text.index("\nllm ")
    assert re.findall(r"-f (\S+)", text) == ["../../docs/host.md"] * 2 and (ROOT / "docs" / "host.md").is_file()
