"""Results of a run: one JSON object by stage, written again as each stage ends, so that no failure takes one away."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

FILE = Path(os.environ.get("OUT", Path(__file__).parent / "out")) / "results.json"


def load() -> dict[str, Any]:
    """All stages so far."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def save(stage: str, values: dict[str, Any]) -> None:
    """Put one stage's values into the file; parts run one after another, so nobody else writes it."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    fresh = FILE.with_suffix(".part")
    fresh.write_text(json.dumps(load() | {stage: values}, indent=1, default=str), encoding="utf-8")
    fresh.replace(FILE)


def attempt(stage: str, work: Callable[[], dict[str, Any]]) -> None:
    """Run one stage, unless it was begun before, and save what it returns with its seconds.

    An exception is its result, and the next stage runs; what it saved by `partly` before that stays.
    """
    if stage in load():
        return
    save(stage, {"ok": False, "error": "begun; the process died, or was stopped at its time limit"})
    start = time.perf_counter()
    try:
        values = {"ok": True} | work()
    except Exception as error:
        traceback.print_exc()
        values = load()[stage] | {"ok": False, "error": f"{type(error).__name__}: {error}"[:4000]}
    values["seconds"] = round(time.perf_counter() - start, 2)
    save(stage, values)
    print(f"{stage}: {json.dumps(values, default=str)[:1500]}", flush=True)


def partly(stage: str, values: dict[str, Any]) -> None:
    """Save what a stage has so far."""
    save(stage, load().get(stage, {}) | values)
