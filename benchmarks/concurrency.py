"""Several conversations at once: tokens a second together, time to the first token, and the gaps that a long prompt
tears into a running answer.

    python benchmarks/concurrency.py --model ds4-tiny --tokens 200 --repeat 3

The engine runs in this process, as it does in the resident host. All figures are of one run on one machine, so that
their ratios mean something. The prompts are new each time; nothing is resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

from ds4_backend import catalog
from ds4_backend.engine.local import LocalEngine
from ds4_backend.engine.running import running
from ds4_backend.types import End, Message, Progress, Request, Sampling, TextDelta

CONVERSATIONS = (1, 2, 4, 8)
LONG_PROMPT_WORDS = 3000
_numbers = count(1)


@dataclass(frozen=True)
class Heard:
    """One answer: when each piece of it came, seconds from the request; tokens generated."""

    times: list[float]
    tokens: int

    @property
    def first(self) -> float:
        return self.times[0]


def main() -> None:
    """Measures and prints."""
    options = read_options()
    os.environ["DS4_BACKEND_CACHE"] = "off"
    engine = running(options.model)
    assert isinstance(engine, LocalEngine)
    together(engine, 1, 8)  # decoded weights, BLAS threads
    runs = [{n: together(engine, n, options.tokens) for n in CONVERSATIONS} for _ in range(options.repeat)]
    report = {
        "model": options.model,
        "cores": os.cpu_count(),
        "conversations": {n: middle([run[n] for run in runs]) for n in CONVERSATIONS},
        "intrusion": intrusion(engine, options.tokens),
    }
    print(json.dumps(report) if options.json else as_text(report))


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default=catalog.TINY)
    parser.add_argument("--tokens", type=int, default=200, help="tokens of each answer")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def request(engine: LocalEngine, tokens: int, words: int = 40) -> Request:
    """A question that nobody has asked before, whose answer does not end by itself."""
    number = next(_numbers)
    text = f"Number {number}: " + " ".join(f"item {number * i % 997}" for i in range(words))
    bias = {engine.tokenizer.eos: -100.0}
    sampling = Sampling(temperature=0, logit_bias=bias)
    return Request((Message("user", text),), thinking=False, sampling=sampling, max_tokens=tokens)


def listen(engine: LocalEngine, wanted: Request) -> Heard:
    """Ask, and note when something of the answer comes."""
    start, times, tokens = time.perf_counter(), [], 0
    for event in engine.chat(wanted):
        if isinstance(event, TextDelta) or (isinstance(event, Progress) and event.phase == "decode"):
            times.append(time.perf_counter() - start)
        if isinstance(event, End):
            tokens = event.usage.output
    return Heard(times, tokens)


def together(engine: LocalEngine, conversations: int, tokens: int) -> dict[str, float]:
    """So many conversations at the same time."""
    wanted = [request(engine, tokens) for _ in range(conversations)]
    start = time.perf_counter()
    heard = list(in_threads([lambda one=one: listen(engine, one) for one in wanted]))  # type: ignore[misc]
    seconds = time.perf_counter() - start
    return {
        "tokens_per_second": sum(one.tokens for one in heard) / seconds,
        "first_seconds": statistics.median(one.first for one in heard),
    }


def intrusion(engine: LocalEngine, tokens: int) -> dict[str, float]:
    """A long prompt arrives while an answer is being written. How long is the longest silence between two tokens of
    that answer, and how long does one chunk of the prompt take?"""
    long = request(engine, 1, LONG_PROMPT_WORDS)
    begun = threading.Event()

    def disturb() -> Heard:
        begun.wait()
        return listen(engine, long)

    def write() -> Heard:
        threading.Timer(0.5, begun.set).start()
        return listen(engine, request(engine, 3 * tokens))

    with passes(engine) as seen:
        in_threads([write, disturb])
    chunks = [one for one in seen if one.tokens > 1]
    during = [one.end for one in seen if one.tokens == 1 and chunks[1].start < one.end < chunks[-1].end]
    return {
        "prompt_tokens": engine.count_tokens(long),
        "chunk_seconds": statistics.median(one.end - one.start for one in chunks[1:]),
        "longest_gap_seconds": max(after - before for before, after in pairwise(during)),
    }


@dataclass(frozen=True)
class Pass:
    """One pass of the model: when, and how many tokens of its first conversation."""

    start: float
    end: float
    tokens: int


@contextmanager
def passes(engine: LocalEngine) -> Iterator[list[Pass]]:
    """The passes of the model while this is open."""
    seen: list[Pass] = []
    model = engine.model
    forward = model.forward

    def timed(spans: Any, **options: Any) -> Any:
        start = time.perf_counter()
        rows = forward(spans, **options)
        seen.append(Pass(start, time.perf_counter(), len(spans[0][1])))
        return rows

    model.forward = timed  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        del model.forward  # type: ignore[method-assign]


def in_threads(works: list[Callable[[], Heard]]) -> Iterator[Heard]:
    """What each gives, all of them begun at once."""
    results: dict[int, Heard] = {}
    threads = [threading.Thread(target=lambda i=i, w=w: results.update({i: w()})) for i, w in enumerate(works)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (results[number] for number in range(len(works)))


def middle(runs: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def as_text(report: dict[str, Any]) -> str:
    """A line for each number of conversations, one for the intrusion."""
    one = report["conversations"][1]["tokens_per_second"]
    lines = [f"{report['model']}, {report['cores']} cores", "conversations   tok/s together   first token"]
    for number, r in report["conversations"].items():
        rate = f"{r['tokens_per_second']:8.1f} ({r['tokens_per_second'] / one:.2f}x)"
        lines.append(f"{number:13}   {rate:16} {r['first_seconds']:8.3f} s")
    r = report["intrusion"]
    lines.append(
        f"a prompt of {r['prompt_tokens']:,} tokens arrives: longest gap {r['longest_gap_seconds']:.3f} s, "
        f"{r['longest_gap_seconds'] / r['chunk_seconds']:.2f} chunks of {r['chunk_seconds']:.3f} s"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
