"""Part `synth`: the file of random weights, in memory. A file of the right size is taken as it is."""

from __future__ import annotations

import os
import shutil
from typing import Any

import options
import results

from ds4_backend.measure.synth import plan, write_random


def write(chosen: Any) -> dict[str, Any]:
    """Sizes; the file is there afterwards."""
    g = options.geometry(chosen)
    wanted = plan(g, chosen.recipe).nbytes
    there = chosen.file.exists() and chosen.file.stat().st_size == wanted
    if not there:
        chosen.file.unlink(missing_ok=True)
        write_random(g, chosen.recipe, chosen.file, jobs=os.cpu_count())
    free = shutil.disk_usage(chosen.file.parent).free
    return {"bytes": wanted, "was_there": there, "free_after": free, "layers": g.block_count, "recipe": chosen.recipe}


if __name__ == "__main__":
    chosen = options.read()
    chosen.file.parent.mkdir(parents=True, exist_ok=True)
    results.attempt("synth", lambda: write(chosen))
