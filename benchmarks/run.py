"""Speed of a model on this machine: prefill and decode in tokens a second. `make bench` runs it on ds4-tiny.

    python benchmarks/run.py --model ds4-tiny --prompt 2048 --tokens 256 --repeat 3 --ops numpy

Plain forward passes through the network, greedy: no chat, no sampling, no streaming. The median of the repeats is
what counts; the spread says how busy the machine was.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ds4_backend import catalog
from ds4_backend.machine import gib, this_machine
from ds4_backend.model import load_model
from ds4_backend.model.model import Model
from ds4_backend.model.sequence import Sequence

TEXT_IDS = 400  # ids below this are special or rare in the embedded vocabulary; the speed does not depend on which


def main() -> None:
    """Measures and prints."""
    options = read_options()
    model = load_model(catalog.resolve(options.model), ops=options.ops)
    ids = prompt_ids(model, options.prompt)
    run(model, ids[:256], 8)  # caches of decoded weights, BLAS threads
    runs = [run(model, ids, options.tokens) for _ in range(options.repeat)]
    report = {
        "model": options.model,
        "ops": options.ops,
        "cores": os.cpu_count(),
        "memory": gib(this_machine().memory_total),
        "prefill": summary([prefill for prefill, _ in runs], options.prompt),
        "decode": summary([decode for _, decode in runs], options.tokens),
    }
    print(json.dumps(report) if options.json else as_text(report))


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default=catalog.TINY)
    parser.add_argument("--prompt", type=int, default=2048, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=256, help="tokens to generate")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--ops", default="numpy")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def prompt_ids(model: Model, count: int) -> list[int]:
    """`count` token ids drawn from a fixed seed."""
    return np.random.default_rng(0).integers(TEXT_IDS, model.geometry.vocab_size, count).tolist()


def run(model: Model, ids: list[int], tokens: int) -> tuple[float, float]:
    """Seconds for the prompt, and for `tokens` greedy steps after it."""
    sequence = model.new_sequence()
    try:
        logits, prefill = timed(lambda: prefill_all(model, sequence, ids))
        _, decode = timed(lambda: decode_all(model, sequence, logits, tokens))
    finally:
        sequence.release()
    return prefill, decode


def prefill_all(model: Model, sequence: Sequence, ids: list[int]) -> np.ndarray:
    """Feeds the prompt in the model's own chunks; logits [1, V] of its last token."""
    for start in range(0, len(ids), model.prefill_tokens):
        logits = model.forward([(sequence, ids[start : start + model.prefill_tokens])])
    return logits


def decode_all(model: Model, sequence: Sequence, logits: np.ndarray, tokens: int) -> None:
    """Feeds the likeliest token back, `tokens` times."""
    for _ in range(tokens):
        logits = model.forward([(sequence, [int(logits[0].argmax())])])


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` returns, and the seconds it took."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def summary(seconds: list[float], tokens: int) -> dict[str, float]:
    """Tokens a second: the median run, the slowest, the fastest."""
    rates = sorted(tokens / second for second in seconds)
    return {"tokens": tokens, "median": statistics.median(rates), "slowest": rates[0], "fastest": rates[-1]}


def as_text(report: dict[str, Any]) -> str:
    """Two lines and a head."""
    lines = [f"{report['model']}, {report['ops']} ops, {report['cores']} cores, {report['memory']}"]
    for what in ("prefill", "decode"):
        r = report[what]
        spread = f"{r['slowest']:.1f} to {r['fastest']:.1f}, {r['tokens']} tokens a run"
        lines.append(f"  {what:8}{r['median']:8.1f} tok/s   ({spread})")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
