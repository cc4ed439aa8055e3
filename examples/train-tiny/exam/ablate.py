"""Take a part of the network away and see what it was for."""

from __future__ import annotations

from typing import Any

import numpy as np
from ds4_tiny.tasks import spread

from ds4_backend.gguf.geometry import CSA, HCA
from exam.pupil import Pupil
from exam.tasks import SETS, needle_at, score

VARIANTS = ("as it is", "HCA rows zeroed", "random indexer", "CSA rows zeroed")
EXAMS = {
    "needle 256": SETS["needle 256"],
    "needle 1,000": needle_at(1000),
    "needle 4,000": needle_at(4000),
    "mostly about, 1,000": lambda d: spread.majority(d, 1000),
    "mostly about, 4,000": lambda d: spread.majority(d, 4000),
    "parts, 1,000": lambda d: spread.parts(d, 1000),
    "parts, 4,000": lambda d: spread.parts(d, 4000),
    "sections, 4,000": lambda d: spread.sections(d, 4000),
    "mood, 4,000": lambda d: spread.mood(d, 4000),
    "one tool": SETS["one tool"],
}


def ablation(pupil: Pupil, variant: str, cases: int) -> dict[str, float]:
    """Scores of the sets that look far back, of the network without a part."""
    if variant.endswith("rows zeroed"):
        _silence(pupil.model, HCA if variant.startswith("HCA") else CSA)
    elif variant == "random indexer":
        _confuse(pupil.model)
    return {name: score(pupil, f"ablate {name}", make, cases if "4,000" not in name else max(4, cases // 2))
            for name, make in EXAMS.items()}  # fmt: skip


def _silence(model: Any, ratio: int) -> None:
    """Compressed rows of these layers become zero: their norm's weight is what scales them."""
    for layer in model.weights.layers:
        if layer.attention.ratio == ratio:
            _, compressor = layer.attention.compressors[0]
            compressor.norm[...] = 0


def _confuse(model: Any) -> None:
    """The indexer's queries are drawn afresh, so that it picks rows at random."""
    rng = np.random.default_rng(5)
    for layer in model.weights.layers:
        if layer.attention.ratio == CSA:
            q_b = layer.attention.indexer_q_b
            q_b[...] = rng.standard_normal(q_b.shape).astype(np.float32) * q_b.std()
