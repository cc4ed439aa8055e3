"""One fact in a long document, asked for at the end: how far back can it be?"""

from __future__ import annotations

from exam.pupil import Pupil
from exam.tasks import needle_at, score

DISTANCES = {"1k": 1_000, "4k": 4_000, "8k": 8_000, "16k": 16_000}


def needles(pupil: Pupil, cases: int) -> dict[str, float]:
    """Share of right answers by distance in tokens; fewer cases where each takes long."""
    return {
        name: score(pupil, f"needle {name}", needle_at(tokens), max(6, min(cases, cases * 4_000 // tokens)))
        for name, tokens in DISTANCES.items()
    }
