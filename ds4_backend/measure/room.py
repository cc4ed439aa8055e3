"""Which published builds this machine's GPU can hold, with how much context, and which setting would make room.

It reads numbers and gives words; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ds4_backend.catalog.builds import FLASH as BUILDS
from ds4_backend.catalog.builds import NEWEST, Build
from ds4_backend.gguf.shapes import FLASH
from ds4_backend.measure.traffic import state_size
from ds4_backend.ops.device import GIB, LEFT_TO_SYSTEM, Device, wired_limit_command

ACTIVATIONS = GIB
"""Beside weights and state: what a prefill chunk needs."""
LONGEST = FLASH.context_length
BYTES_PER_TOKEN = state_size(FLASH, LONGEST) / LONGEST
"""Of state, as float16: 6,885 for Flash."""
USEFUL = 8192
"""Tokens of context below which a build is no use."""


@dataclass(frozen=True, slots=True)
class Fit:
    """One build: the context in tokens that fits beside its weights as the machine is set now, and as it could be."""

    build: str
    nbytes: int
    context: int
    possible: int

    @property
    def fits(self) -> bool:
        """Now, without a change."""
        return self.context >= USEFUL


def context_beside(weights: int, limit: int) -> int:
    """Tokens whose state fits beside `weights` bytes within `limit`: at most what the model takes, at least 0."""
    left = limit - weights - ACTIVATIONS
    return max(0, min(LONGEST, int(left / BYTES_PER_TOKEN) // 1000 * 1000)) if left > 0 else 0


def fits(device: Device, builds: Sequence[Build] = BUILDS) -> list[Fit]:
    """Each build of the newest checkpoint, best first."""
    raised = max(device.limit, device.total - LEFT_TO_SYSTEM) if device.kind == "metal" else device.limit
    return [
        Fit(b.name, b.nbytes, context_beside(b.nbytes, device.limit), context_beside(b.nbytes, raised))
        for b in builds
        if b.dialect == NEWEST
    ]


def settings_to_change(device: Device, found: Sequence[Fit]) -> list[str]:
    """Sentences with commands, for the user to run; none where all is as good as it gets."""
    advice = []
    better = next((fit for fit in found if fit.possible >= USEFUL and fit.possible > fit.context), None)
    if device.kind == "metal" and better:
        wanted = better.nbytes + ACTIVATIONS + int(better.possible * BYTES_PER_TOKEN)
        needed = min(device.total - LEFT_TO_SYSTEM, wanted)
        advice.append(
            f"macOS lets the GPU hold {device.limit / GIB:.1f} GiB. For {better.build} with {better.possible:,} tokens "
            f"of context, until the next start: {wired_limit_command(needed)}"
        )
    if device.kind == "cpu":
        advice.append(
            "MLX finds no GPU here: ds4-tiny runs, a full-size model would take minutes for a token. On Linux with an "
            'NVIDIA card, install the extra `cuda`: pip install "ds4-backend[cuda]"'
        )
    if device.free is not None and device.free < 0.9 * device.total:
        used = (device.total - device.free) / GIB
        advice.append(f"{used:.1f} GiB of {device.name}'s memory are in use; end what uses them before loading a model")
    return advice
