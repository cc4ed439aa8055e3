"""Part `layers`: every kind of layer and every weight format against numpy, small widths first, then Flash's own."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

import options
import results

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.shapes import FLASH, TINY
from ds4_backend.measure.compare import Case, cases, compare

WIDE = [Case(kind, recipe, True, forced=True) for recipe in ("q2", "q4", "mxfp4") for kind in ("csa", "hca")]
"""At true widths numpy takes a while; so one form of each weight format, in the two richest layers."""


def run(name: str, chosen: list[Case], ops: str, base: Geometry, end: float) -> dict[str, Any]:
    """Compare as many cases as there is time for; what is there is saved after each."""
    found: list[dict[str, Any]] = []
    for number, case in enumerate(chosen):
        if time.monotonic() > end:
            break
        start = time.perf_counter()
        found += [asdict(result) for result in compare(case, ops, base)]
        print(f"  {case}: {time.perf_counter() - start:.1f} s, {[r['ok'] for r in found[-3:]]}", flush=True)
        results.partly(name, {"cases": number + 1, "of": len(chosen), "results": found})
    bad = [result["case"] + " " + result["phase"] for result in found if not result["ok"]]
    return {"all_ok": not bad and len(found) > 0, "bad": bad, **results.load()[name], "ok": True, "error": None}


if __name__ == "__main__":
    told = options.read()
    start = time.monotonic()
    half, last = start + 0.5 * told.seconds, start + 0.9 * told.seconds
    small, wide = list(cases()), replace(FLASH, vocab_size=1024)
    if told.quick:
        small, WIDE[:] = small[:1], []
    results.attempt("layers_tiny", lambda: run("layers_tiny", small, told.ops, TINY, half))
    results.attempt("layers_flash", lambda: run("layers_flash", WIDE, told.ops, wide, last))
