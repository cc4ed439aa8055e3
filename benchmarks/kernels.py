"""Times decode steps and prefill chunks of a model on a device: wall time, launches, and Python's share of a step.

    python benchmarks/kernels.py MODEL.gguf --ops cuda --contexts 512,8192 --steps 40 --prefill 2048

Contexts are made of random pages, so weights may be random, too (`ds4-backend debug synth`). `benchmarks/gpu/run.py`
traces every kernel of a step.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from ds4_backend.measure.synthetic_state import synthetic_sequence
from ds4_backend.model import Model, load_model


class Clock:
    """Seconds from a forward pass's begin to the moment when its graph is built and only the device is waited for."""

    def __init__(self, model: Model) -> None:
        self.built, self._begun, self._to_host = 0.0, 0.0, model.ops.to_host
        model.ops.to_host = self._wait  # type: ignore[method-assign]

    def begin(self) -> None:
        self._begun = time.perf_counter()

    def _wait(self, array: Any) -> Any:
        self.built += time.perf_counter() - self._begun
        return self._to_host(array)


def decode(model: Model, clock: Clock, context: int, steps: int, sequences: int) -> None:
    """Steps of one or several conversations at a context; the first five are not counted."""
    held = [synthetic_sequence(model, context, seed) for seed in range(sequences)]
    seconds = built = 0.0
    launches = 0
    for number in range(steps + 5):
        if number == 5:
            seconds, clock.built, launches = 0.0, 0.0, model.ops.launcher.launches  # type: ignore[attr-defined]
        before = time.perf_counter()
        clock.begin()
        model.forward([(sequence, [1 + number]) for sequence in held])
        seconds += time.perf_counter() - before
    built, launched = clock.built / steps, model.ops.launcher.launches - launches  # type: ignore[attr-defined]
    rate = sequences * steps / seconds
    print(
        f"decode {sequences} x {context:>9,}: {rate:8.1f} tok/s, {seconds / steps * 1e3:7.2f} ms a step, of which "
        f"{built * 1e3:6.2f} ms to build it; {launched / steps:.0f} launches",
        flush=True,
    )
    for sequence in held:
        sequence.release()


def prefill(model: Model, context: int, tokens: int) -> None:
    """A chunk at a context, three times; the first compiles."""
    rng = np.random.default_rng(0)
    for number in range(3):
        sequence = synthetic_sequence(model, context) if context else model.new_sequence()
        ids = rng.integers(0, model.geometry.vocab_size, tokens).tolist()
        before = time.perf_counter()
        model.forward([(sequence, ids)])
        seconds = time.perf_counter() - before
        print(f"prefill {number} of {tokens} at {context:>9,}: {tokens / seconds:8.1f} tok/s", flush=True)
        sequence.release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--ops", default="cuda")
    parser.add_argument("--contexts", default="2048")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--sequences", default="1")
    parser.add_argument("--prefill", type=int, default=0, help="tokens of a chunk; 0 leaves prefill out")
    options = parser.parse_args()
    model = load_model(options.model, ops=options.ops)
    clock = Clock(model)
    for context in map(int, options.contexts.split(",")):
        if options.prefill:
            prefill(model, context, options.prefill)
        for sequences in map(int, options.sequences.split(",")):
            decode(model, clock, context, options.steps, sequences)


if __name__ == "__main__":
    main()
