"""Train ds4-tiny for a given time, on one GPU or several, or on a CPU to try it out.

    PYTHONPATH=examples/train-tiny:. torchrun --standalone --nproc-per-node 4 -m ds4_tiny.train --minutes 16 --out OUT
    PYTHONPATH=examples/train-tiny:. python -m ds4_tiny.train --minutes 2 --out OUT --small   # on a CPU

Rates and phases follow the clock of the training, compilation left out, so a run ends well at whatever speed. The same
command again goes on where `OUT/state.pt` stopped (see schedule.py for what stands in OUT).
"""

from __future__ import annotations

import argparse
import math
import os
import random
import time
from dataclasses import replace
from pathlib import Path

import torch

from ds4_tiny import checkpoint, schedule
from ds4_tiny.average import Average
from ds4_tiny.batches import Feed
from ds4_tiny.crew import Crew
from ds4_tiny.network import Sight
from ds4_tiny.progress import Log, Progress, Saver
from ds4_tiny.shape import TINY
from ds4_tiny.step import Trainer
from ds4_tiny.weights import new_weights

SMALL = replace(TINY, hidden=64, ratios=(0, 4, 128), heads=4, head=96, query_rank=32, groups=2, group_rank=16,
                index_heads=4, index_width=32, experts=4, expert_width=64, hashed=1)  # fmt: skip
"""A toy for the CPU: every kind of layer, a hundredth of the work."""
AVERAGE_STEPS = 8
"""Steps between two looks at the weights for their mean."""


def main() -> None:
    """Start the workers, train until the time is up, save."""
    options = read_options()
    started = time.time()
    progress = Progress.read(options.out, 60 * options.minutes * options.part)
    lengths = [int(length) for length in options.lengths.split(",")]
    rank = os.environ.get("RANK", 0)
    feed = Feed(lengths, options.tokens, options.workers, f"{options.seed} {rank} {progress.steps}")
    crew = Crew()
    try:
        run(options, crew, feed, lengths, progress, started)
    finally:
        feed.stop()
        crew.leave()


def run(
    options: argparse.Namespace, crew: Crew, feed: Feed, lengths: list[int], progress: Progress, started: float
) -> None:
    """The loop: `part` is how much of the time is gone, the same on every GPU."""
    log = Log(options.out if crew.rank == 0 else None, started)
    trainer, average = ready(options, crew, feed, lengths, log, progress.seconds / max(60 * options.minutes, 1e-9))
    saver = Saver(options.out if crew.rank == 0 else None, trainer, average, progress)
    choose = random.Random(f"{options.seed} {progress.steps}")
    clock = Clock(crew, progress, 60 * options.minutes, started + 60 * options.until)
    first = progress.steps
    while (part := clock.part()) < 1:
        length, sight = drawn(choose, lengths, part)
        rate = schedule.rate(progress.steps - first, part - clock.first, part)
        trainer.train(*feed.take(length), sight=sight, rate=options.rate * rate, matrix_rate=options.matrix_rate * rate,
                      prompt_weight=schedule.upto(schedule.PROMPT_WEIGHTS, part))  # fmt: skip
        progress.count(feed.rows[length] * length * crew.size)
        if progress.steps % AVERAGE_STEPS == 0:
            average.follow(trainer.network.weights, part)
        if log.due() or progress.steps <= first + 3:
            log(f"step {progress.steps} part {part:.3f} length {length} {sight} {trainer.report()} rate {rate:.3f} "
                f"{progress.said()} ready {list(feed.waiting().values())}")  # fmt: skip
        saver.sometimes()
    if part < math.inf:
        average.follow(trainer.network.weights, part)
    saver.save()
    end = "the time is up" if part < math.inf else "stopped, to be continued by the same command"
    log(f"done: {progress.said()}, {progress.steps} steps; {end}")


def ready(
    options: argparse.Namespace, crew: Crew, feed: Feed, lengths: list[int], log: Log, part: float
) -> tuple[Trainer, Average]:
    """A trainer at its beginning or where it was left, with all kinds of steps from this part on recorded."""
    shape = SMALL if options.small else TINY
    weights = new_weights(shape, options.seed)
    if options.weights:
        weights |= checkpoint.load(options.weights)
    trainer = Trainer(shape, weights, crew, compiled=options.compile, graphs=options.graphs)
    count = sum(w.numel() for w in trainer.network.trained.values()) / 1e6
    log(f"{crew.size} x {crew.device}, {count:.1f} M weights, {options.tokens} tokens a step each, lengths {lengths}")
    begin = {name: value.clone() for name, value in trainer.state().items()}
    trainer.prepare(feed.rows, [(length, sight) for length in lengths for sight in schedule.sights(length, part)])
    average = Average()
    state, average.values, average.part = checkpoint.load_state(options.out, crew.device) or (begin, {}, 0.0)
    trainer.restore(state)
    log("ready")
    return trainer, average


def drawn(choose: random.Random, lengths: list[int], part: float) -> tuple[int, Sight]:
    """The next step's row length and what it sees; the same on every GPU."""
    shares = schedule.shares(part)
    length = choose.choices(lengths, [shares.get(length, 0) + 1e-9 for length in lengths])[0]
    return length, schedule.sight(length, part, choose.random())


class Clock:
    """How much of the training time is gone, over all commands; infinity when this command has to end before."""

    def __init__(self, crew: Crew, progress: Progress, seconds: float, end: float) -> None:
        self.crew, self.progress, self.seconds, self.end = crew, progress, max(seconds, 1e-9), end
        self.before, self.begun = progress.seconds, time.time()
        self.first = self.before / self.seconds

    def part(self) -> float:
        """0 at the start, 1 at the end, as the first process sees it."""
        now = time.time()
        self.progress.seconds = self.before + now - self.begun
        part = self.progress.seconds / self.seconds
        return self.crew.agreed(math.inf if now > self.end and part < 1 else part)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=16.0, help="of training in all, over all commands")
    parser.add_argument("--until", type=float, default=math.inf, help="minutes of this command; then it saves and ends")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, help="begin with these parts, where no state.pt is left")
    parser.add_argument("--part", type=float, default=0.0, help="of the time that was gone when they were saved")
    parser.add_argument("--tokens", type=int, default=16_384, help="tokens a step on each GPU")
    parser.add_argument("--lengths", default="1024,2048,4096,8192", help="row lengths, multiples of 128")
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
