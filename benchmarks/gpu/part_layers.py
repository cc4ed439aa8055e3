"""Part `layers`: every kind of layer and every weight format against numpy, small widths first, then Flash's own.

Nearly all of a case's time is compilation of its kernels, one after another in a process. So several processes share
the cases, each with its own kinds of layer and formats; they write a line a result, and this one gathers them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import options
import results

from ds4_backend.gguf.shapes import FLASH, TINY
from ds4_backend.measure.compare import Case, cases, compare

WIDE = [Case(kind, recipe, True, forced=True) for recipe in ("q2", "q4", "mxfp4") for kind in ("csa", "hca")]
"""At true widths numpy takes a while; so one form of each weight format, in the two richest layers."""
WORKERS = 9
"""Processes at most; each wants a core, and half a gigabyte of the GPU for its context."""


def chosen(quick: bool) -> list[tuple[str, Case]]:
    """(stage, case) of everything."""
    if quick:
        return [("layers_tiny", case) for case in list(cases())[:1]]
    return [("layers_tiny", case) for case in cases()] + [("layers_flash", case) for case in WIDE]


def share(asked: list[tuple[str, Case]], workers: int) -> list[list[tuple[str, Case]]]:
    """The cases of each process: those of one kind and recipe share their kernels, so they stay together."""
    families: dict[tuple[str, str, str], list[tuple[str, Case]]] = {}
    for stage, case in asked:
        families.setdefault((stage, case.kind, case.recipe), []).append((stage, case))
    parts: list[list[tuple[str, Case]]] = [[] for _ in range(workers)]
    for family in sorted(families.values(), key=len, reverse=True):
        min(parts, key=len).extend(family)
    return [sorted(part, key=lambda pair: pair[0], reverse=True) for part in parts if part]


def work(told: Any, number: int, workers: int, out: Path) -> None:
    """One process: its cases, each result a line of `out`."""
    for stage, case in share(chosen(told.quick), workers)[number]:
        start = time.perf_counter()
        base = TINY if stage == "layers_tiny" else replace(FLASH, vocab_size=1024)
        found = [asdict(result) for result in compare(case, told.ops, base)]
        line = {"stage": stage, "case": str(case), "seconds": time.perf_counter() - start, "results": found}
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def lines(folder: Path) -> Iterator[dict[str, Any]]:
    """What the processes have written; a line that is not whole yet is left for the next time."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def gather(folder: Path, asked: list[tuple[str, Case]]) -> None:
    """Everything so far into the results."""
    for stage in dict.fromkeys(stage for stage, _ in asked):
        mine = [line for line in lines(folder) if line["stage"] == stage]
        found = [result for line in mine for result in line["results"]]
        of = sum(1 for one, _ in asked if one == stage)
        bad = [result["case"] + " " + result["phase"] for result in found if not result["ok"]]
        results.save(stage, {
            "ok": len(mine) == of, "all_ok": not bad and bool(found), "cases": len(mine), "of": of, "bad": bad,
            "seconds": {line["case"]: round(line["seconds"], 1) for line in mine}, "results": found,
        })  # fmt: skip


def everything(told: Any) -> None:
    """Start the processes, gather until they end or the time does."""
    asked, end = chosen(told.quick), time.monotonic() + 0.95 * told.seconds
    workers = min(WORKERS, os.cpu_count() or 1, len(asked))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        running = [_start(number, workers, folder) for number in range(len(share(asked, workers)))]
        while any(process.poll() is None for process in running) and time.monotonic() < end:
            time.sleep(2)
            gather(folder, asked)
        for process in running:
            process.kill()
            process.wait()
        gather(folder, asked)
    for stage, values in results.load().items():
        if stage.startswith("layers"):
            print(f"{stage}: {values['cases']} of {values['of']}, wrong: {values['bad']}", flush=True)


def _start(number: int, workers: int, folder: Path) -> subprocess.Popen[bytes]:
    """A process."""
    environment = dict(os.environ, OPENBLAS_NUM_THREADS="1")
    words = [sys.executable, *sys.argv, "--worker", f"{number}/{workers}", "--out", str(folder / f"{number}.jsonl")]
    return subprocess.Popen(words, env=environment)


if __name__ == "__main__":
    told = options.read()
    if told.worker:
        number, workers = map(int, told.worker.split("/"))
        work(told, number, workers, told.out)
    else:
        everything(told)
