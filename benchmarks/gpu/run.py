"""Everything to measure on a machine with an NVIDIA GPU, in one call: the full Flash geometry with random weights.

    OUT=results python benchmarks/gpu/run.py [--file PATH] [--geometry flash] [--layers N] [--ops cuda] [part ...]

Parts, in order: machine, compile, synth, model, layers, greedy, ways. Each runs in a process of its own under a time
limit; each stage is written to OUT/results.json as it ends, and no failure stops the rest. A part that died is started
once more and goes on with the stages that were not tried. FILE should lie in memory; one of the right size is used
again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
LIMITS = {"machine": 40, "compile": 90, "synth": 150, "model": 420, "layers": 470, "greedy": 240, "ways": 60}
"""Seconds a part may take."""
TWICE = {"model"}
"""The part that goes on where it died."""


def main() -> None:
    """Runs the parts."""
    options = read_options()
    environment = dict(os.environ)
    root = str(HERE.parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    environment.setdefault("MLX_MAX_MB_PER_BUFFER", "1000000")  # docs/decisions.md: or MLX ends a graph early
    environment.setdefault("DS4_BACKEND_CACHE_DIR", str(options.file.parent / "ds4-cache"))  # compiled kernels
    environment["PYTHONUNBUFFERED"] = "1"
    end = time.monotonic() + options.limit
    for part in options.parts or LIMITS:
        for _ in range(2 if part in TWICE else 1):
            if run(part, options, environment, end):
                break


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=list(LIMITS), metavar="part")
    parser.add_argument("--file", type=Path, default=Path("/dev/shm/ds4-random.gguf"))
    parser.add_argument("--geometry", default="flash", choices=["flash", "pro", "tiny"])
    parser.add_argument("--layers", type=int)
    parser.add_argument("--recipe", default="q2")
    parser.add_argument("--ops", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script itself")
    parser.add_argument("--limit", type=float, default=580, help="seconds for everything")
    return parser.parse_args()


def run(part: str, options: argparse.Namespace, environment: dict[str, str], end: float) -> bool:
    """Run one part; True unless it died."""
    limit = min(LIMITS[part], end - time.monotonic())
    if limit < 5:
        print(f"== {part}: no time left", flush=True)
        return True
    words = [sys.executable, str(HERE / f"part_{part}.py"), str(options.file), "--geometry", options.geometry]
    words += ["--recipe", options.recipe, "--ops", options.ops, "--seconds", str(limit)]
    words += ["--layers", str(options.layers)] if options.layers else []
    words += ["--quick"] if options.quick else []
    print(f"== {part}, at most {limit:.0f} s", flush=True)
    start = time.monotonic()
    try:
        code: int | str = subprocess.run(words, env=environment, timeout=limit).returncode
    except subprocess.TimeoutExpired:
        code = "stopped at its limit"
    print(f"== {part}: {code}, {time.monotonic() - start:.1f} s", flush=True)
    return code == 0


if __name__ == "__main__":
    main()
