"""How far a run is, what it says, and what it leaves in its folder.

    last/       the weights as they are, in parts of less than 16 MiB (see checkpoint.py)
    average/    their mean over the end of the run, once there is one
    state.pt    everything that the next command needs to go on
    log.txt
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from ds4_tiny import checkpoint
from ds4_tiny.average import Average
from ds4_tiny.step import Trainer

LOG_SECONDS, SAVE_SECONDS = 5.0, 120.0


@dataclass
class Progress:
    """Steps, tokens and seconds of training so far, over all commands."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @classmethod
    def read(cls, out: Path, seconds: float) -> Progress:
        """What a command before left in `out`; else a start after `seconds`."""
        path = out / "progress.json"
        return cls(**json.loads(path.read_text("utf-8"))) if path.exists() else cls(seconds=seconds)

    def count(self, tokens: int) -> None:
        """One more step."""
        self.steps += 1
        self.tokens += tokens

    def said(self) -> str:
        """Tokens and their speed, for the log."""
        return f"tokens {self.tokens / 1e6:.1f}M mean {self.tokens / 1e3 / max(self.seconds, 1e-9):.0f}k/s"


class Saver:
    """Writes a run's folder now and then; nothing without a folder."""

    def __init__(self, out: Path | None, trainer: Trainer, average: Average, progress: Progress) -> None:
        self.out, self.trainer, self.average, self.progress = out, trainer, average, progress
        self.saved = time.time()

    def sometimes(self) -> None:
        """Save if it is time."""
        if self.out and time.time() - self.saved > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Parts, state, progress; each file is there whole or not at all."""
        if not self.out:
            return
        network = self.trainer.network
        checkpoint.save(self.out / "last", network.shape, network.weights)
        if self.average.values:
            checkpoint.save(self.out / "average", network.shape, self.average.values)
        checkpoint.save_state(self.out, self.trainer.state(), self.average.values, self.average.part)
        path = self.out / "progress.json"
        path.with_suffix(".new").write_text(json.dumps(asdict(self.progress)) + "\n", "utf-8")
        path.with_suffix(".new").replace(path)
        self.saved = time.time()


class Log:
    """Lines with the seconds since the start, on standard output and in log.txt; silent without a folder."""

    def __init__(self, out: Path | None, started: float) -> None:
        self.path, self.started, self.said = out and out / "log.txt", started, 0.0
        if out:
            out.mkdir(parents=True, exist_ok=True)

    def due(self) -> bool:
        """Whether it is time for a line, for whoever writes any."""
        return self.path is not None and time.time() - self.said > LOG_SECONDS

    def __call__(self, line: str) -> None:
        if self.path:
            self.said = time.time()
            line = f"[{time.time() - self.started:6.1f}] {line}"
            print(line, flush=True)
            with self.path.open("a") as file:
                file.write(line + "\n")
