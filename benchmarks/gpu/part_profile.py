"""Part `profile`: where one decoded token's time goes on the GPU, kernel by kernel, as Nsight Compute's ncu has it.

The part starts itself again under ncu with the word `once`; that run marks the token between the profiler's start and
stop, so that loading and warming up are not counted.
"""

from __future__ import annotations

import csv
import ctypes
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import options
import results

CONTEXT = 512
METRIC = "gpu__time_duration.sum"


def profile(told: Any, seconds: float) -> dict[str, Any]:
    """Microseconds and launches by kernel, the longest first."""
    if shutil.which("ncu") is None:
        raise RuntimeError("ncu is not on the PATH")
    log = results.FILE.with_name("ncu.csv")
    words = ["ncu", "--clock-control", "none", "--profile-from-start", "off", "--csv", "--log-file", str(log)]
    words += ["--metrics", METRIC, sys.executable, *sys.argv, "--once"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds)
    table = by_kernel(log) if log.exists() else {}
    log.unlink(missing_ok=True)  # every launch's line: megabytes
    if not table:
        raise RuntimeError(f"ncu ended with {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    total = sum(row["microseconds"] for row in table.values())
    launches = sum(row["launches"] for row in table.values())
    return {"microseconds": total, "launches": launches, "kernels": table}


def by_kernel(log: Path) -> dict[str, dict[str, float]]:
    """Sums over launches of the same kernel; MLX's names without their hash."""
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.startswith('"')]
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"launches": 0, "microseconds": 0.0})
    scale = {"ns": 1e-3, "nsecond": 1e-3, "us": 1.0, "usecond": 1.0, "ms": 1e3, "msecond": 1e3}
    for row in csv.DictReader(lines):
        if row.get("Metric Name") != METRIC:
            continue
        name = re.sub(r"_[0-9a-f]{6,}$|\(.*$|<.*$", "", row["Kernel Name"])
        found[name]["launches"] += 1
        found[name]["microseconds"] += float(row["Metric Value"].replace(",", "")) * scale[row["Metric Unit"]]
    return dict(sorted(found.items(), key=lambda item: -item[1]["microseconds"]))


def once(told: Any) -> None:
    """Load, warm up, and decode one token between the profiler's start and stop."""
    import mlx.core as mx

    from ds4_backend.measure.frontiers import prefill, random_ids, step
    from ds4_backend.model import load_model

    model = load_model(told.file, ops=told.ops)
    sequence = model.new_sequence()
    logits = prefill(model, sequence, random_ids(model, CONTEXT))
    for _ in range(3):
        logits = step(model, sequence, logits, None)
    mx.synchronize()
    runtime = _runtime()
    runtime.cudaProfilerStart()
    step(model, sequence, logits, None)
    mx.synchronize()
    runtime.cudaProfilerStop()


def _runtime() -> ctypes.CDLL:
    """The CUDA runtime that MLX has loaded."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    return ctypes.CDLL(re.findall(r"(/\S*libcudart\.so\S*)", maps)[0])


if __name__ == "__main__":
    told = options.read()
    if told.once:
        once(told)
    else:
        results.attempt("profile", lambda: profile(told, told.seconds - 5))
