"""Train ds4-tiny for a given time, on one GPU or several, or on a CPU to try it out.

    PYTHONPATH=examples/train-tiny:. torchrun --nproc-per-node 4 -m ds4_tiny.train --minutes 8 --out OUT
    PYTHONPATH=examples/train-tiny:. python -m ds4_tiny.train --minutes 2 --out OUT --small   # on a CPU

Rates and phases follow the clock, so a run ends well at whatever speed. `OUT` gets the checkpoint in parts (see
checkpoint.py), renewed every minute, and log.txt.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from dataclasses import replace
from pathlib import Path

import torch

from ds4_tiny import checkpoint
from ds4_tiny.batches import Feed
from ds4_tiny.crew import Crew
from ds4_tiny.shape import TINY, Shape
from ds4_tiny.step import Trainer
from ds4_tiny.weights import new_weights

SMALL = replace(TINY, hidden=64, ratios=(0, 4, 128), heads=4, head=96, query_rank=32, groups=2, group_rank=16,
                index_heads=4, index_width=32, experts=4, expert_width=64, hashed=1)  # fmt: skip
"""A toy for the CPU: every kind of layer, a hundredth of the work."""
WARM_STEPS, WARM_PART, FLAT_UNTIL, FLOOR = 100, 0.08, 0.45, 0.02
DENSE_UNTIL = 0.12
"""Until then attention sees every row: the indexer has nothing to say yet."""
LONG_SHARES = ((0.12, (1.0, 0.0, 0.0)), (0.45, (0.74, 0.26, 0.0)), (1.01, (0.55, 0.28, 0.17)))
"""Shares of the row lengths up to a part of the time."""
PROMPT_WEIGHTS = ((0.3, 0.1), (1.01, 0.02))
"""What a prompt's token counts for beside an answer's: its entropy never falls and would drown the rest."""
LOG_SECONDS, SAVE_SECONDS, RESERVE_SECONDS = 5.0, 60.0, 10.0


def main() -> None:
    """Start the workers, train until the time is up, save."""
    options = read_options()
    started = time.time()
    lengths = [int(length) for length in options.lengths.split(",")]
    feed = Feed(lengths, options.tokens, options.workers, f"{options.seed} {os.environ.get('RANK', 0)}")
    crew = Crew()
    try:
        run(options, crew, feed, lengths, started)
    finally:
        feed.stop()
        crew.leave()


def run(options: argparse.Namespace, crew: Crew, feed: Feed, lengths: list[int], started: float) -> None:
    """The loop: `part` is how much of the time is gone, the same on every GPU."""
    shape = SMALL if options.small else TINY
    log = Log(options.out, started) if crew.rank == 0 else Log(None, started)
    trainer = Trainer(shape, new_weights(shape, options.seed), crew, compiled=options.compile, graphs=options.graphs)
    count = sum(w.numel() for w in trainer.network.trained.values()) / 1e6
    log(f"{crew.size} x {crew.device}, {count:.1f} M weights, {options.tokens} tokens a step each, lengths {lengths}")
    choose = random.Random(options.seed)
    begun, deadline = time.time(), started + 60 * options.minutes - RESERVE_SECONDS
    steps, tokens, said, saved = 0, 0, 0.0, time.time()
    while (part := crew.agreed((time.time() - begun) / max(1e-9, deadline - begun))) < 1:
        length = choose.choices(lengths, shares(part)[: len(lengths)])[0]
        ids, kinds = feed.take(length)
        rate = min(1, max((steps + 1) / WARM_STEPS, part / WARM_PART)) * decay(part)
        trainer.train(ids, kinds, dense=part < DENSE_UNTIL, rate=options.rate * rate,
                      matrix_rate=options.matrix_rate * rate, prompt_weight=upto(PROMPT_WEIGHTS, part))  # fmt: skip
        steps, tokens = steps + 1, tokens + ids.shape[0] * length * crew.size
        if time.time() - said > LOG_SECONDS or steps <= 3:
            said = time.time()
            speed = tokens / (time.time() - begun)
            log(f"step {steps} part {part:.3f} length {length} {trainer.report()} rate {rate:.3f} "
                f"tokens {tokens / 1e6:.1f}M "
                f"mean {speed / 1e3:.0f}k/s ready {list(feed.waiting().values())}")  # fmt: skip
        if crew.rank == 0 and time.time() - saved > SAVE_SECONDS:
            saved = time.time()
            save(options.out, shape, trainer)
    if crew.rank == 0:
        save(options.out, shape, trainer)
    log(f"done: {steps} steps, {tokens / 1e6:.1f}M tokens, {time.time() - begun:.0f} s of training")


def save(out: Path, shape: Shape, trainer: Trainer) -> None:
    """The checkpoint's parts and config.json."""
    checkpoint.save(out, shape, trainer.network.weights)


def decay(part: float) -> float:
    """Flat, then straight down to the floor."""
    return 1.0 if part < FLAT_UNTIL else max(FLOOR, 1 - (part - FLAT_UNTIL) / (1 - FLAT_UNTIL))


def shares(part: float) -> tuple[float, ...]:
    """How often each row length is drawn."""
    return upto(LONG_SHARES, part)


def upto(table, part):  # type: ignore[no-untyped-def]
    """The value of the first row whose end is not reached."""
    return next(value for end, value in table if part < end)


class Log:
    """Lines with the seconds since the start, on standard output and in log.txt; silent without a folder."""

    def __init__(self, out: Path | None, started: float) -> None:
        self.path, self.started = out and out / "log.txt", started
        if out:
            out.mkdir(parents=True, exist_ok=True)

    def __call__(self, line: str) -> None:
        if self.path:
            line = f"[{time.time() - self.started:6.1f}] {line}"
            print(line, flush=True)
            with self.path.open("a") as file:
                file.write(line + "\n")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="wall clock in all, compilation and saving included")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=16_384, help="tokens a step on each GPU")
    parser.add_argument("--lengths", default="1024,4096,8192", help="row lengths, multiples of 128")
    parser.add_argument(
        "--workers", type=int, default=max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("WORLD_SIZE", 1)) - 2)
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.003, help="Adam's")
    parser.add_argument("--matrix-rate", type=float, default=0.02, help="Muon's")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    parser.add_argument("--graphs", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    parser.add_argument("--small", action="store_true", help="a toy network, for a CPU")
    return parser.parse_args()


if __name__ == "__main__":
    main()
