"""Draws one token from a row of logits.

Order of the filters, as in `types.Sampling`: softmax at `temperature`, `top_k`, `min_p`, `top_p`, renormalise, draw.
The mass that `top_p` counts is the softmax's over the whole vocabulary. A row of 129,280 logits is never sorted:
`top_k` and `top_p` partition, `min_p` is a threshold. Penalties and biases are added to the row before it comes here
(engine/draw.py). It knows no model, no tokenizer and no request.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds4_backend.engine.defaults import REFERENCE, fault
from ds4_backend.errors import EngineError, RequestError
from ds4_backend.options import SAMPLING
from ds4_backend.types import Sampling

Logits = NDArray[np.float32]
Mask = NDArray[np.bool_]
FIRST_GUESS = 256
"""Tokens that `top_p` looks at first; a nucleus is nearly always smaller."""
BLOCK = 256
"""Weights that are summed up together before one is drawn."""
SMALLEST = 1e-30
"""Temperatures below this count as this, in float32."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Sampling options with every value decided."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


def settle(sampling: Sampling, defaults: Sampling = REFERENCE) -> Settings:
    """Fill what `sampling` leaves open from `defaults`, then from the reference; an open seed is drawn afresh.

    Raises RequestError naming an option that is out of range.
    """
    if said := fault(sampling):
        raise RequestError(said)

    def first(name: str) -> Any:
        return next(v for s in (sampling, defaults, REFERENCE) if (v := getattr(s, name)) is not None)

    seed = sampling.seed if sampling.seed is not None else secrets.randbits(32)
    return Settings(seed=seed, **{name: first(name) for name in SAMPLING if name != "seed"})


class Sampler:
    """Draws the tokens of one request: `pick` once per token.

    The same settings, seed and logits give the same tokens. Raises RequestError for an option out of range.
    """

    def __init__(self, sampling: Sampling, defaults: Sampling = REFERENCE) -> None:
        self.settings = settle(sampling, defaults)
        self._random = np.random.default_rng(self.settings.seed)

    def pick(self, logits: Logits, mask: Mask | None = None) -> int:
        """One token id from float32 [V]. Entries of -inf are never drawn, nor are those where `mask`, bool [V], is
        false; every filter counts only what is left.

        Raises EngineError when the row holds a NaN, or nothing that can be drawn.
        """
        allowed = None if mask is None else np.flatnonzero(mask)
        rows = logits if allowed is None else logits[allowed]
        if not len(rows):
            raise EngineError("the constraint allows no token at all at this place")
        best = int(np.argmax(rows))
        if not math.isfinite(rows[best]):
            token = best if allowed is None else allowed[best]
            raise EngineError(
                f"the model's logits hold no usable maximum ({rows[best]} at token {token}); "
                "the file may be damaged: run `ds4-backend inspect` on it"
            )
        place = best if self.settings.temperature == 0 else self._drawn(rows)
        return place if allowed is None else int(allowed[place])

    def _drawn(self, logits: Logits) -> int:
        ids, weights = candidates(logits, self.settings)
        return int(ids[place_of(weights, self._random.random())])


def place_of(weights: NDArray[np.float32], part: float) -> int:
    """Where a `part` of the whole weight, from 0 to below 1, is reached. Blocks first: most are never looked into."""
    blocks = np.cumsum(np.add.reduceat(weights, np.arange(0, len(weights), BLOCK), dtype=np.float64))
    target = part * blocks[-1]
    block = _reached(blocks, target)
    first = block * BLOCK
    inside = np.cumsum(weights[first : first + BLOCK], dtype=np.float64)
    return first + _reached(inside, target - (blocks[block - 1] if block else 0.0))


def _reached(mass: NDArray[np.float64], target: float) -> int:
    """The first place whose sum is above the target; where rounding lets none be, the last that weighs something."""
    return int(min(np.searchsorted(mass, target, side="right"), np.searchsorted(mass, mass[-1], side="left")))


def candidates(logits: Logits, settings: Settings) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """What may be drawn at a temperature above 0: ids in rising order, and their weights relative to the best."""
    peak = float(logits.max())
    ids, rows = _top_k(logits, settings.top_k)
    if settings.min_p > 0:
        likely = np.flatnonzero(rows >= peak + settings.temperature * math.log(settings.min_p))
        ids, rows = ids[likely], rows[likely]
    weights = _weights(rows, peak, settings.temperature)
    if settings.top_p < 1:
        whole = weights if len(rows) == len(logits) else _weights(logits, peak, settings.temperature)
        kept = _nucleus(weights, settings.top_p * float(whole.sum(dtype=np.float64)))
        ids, weights = ids[kept], weights[kept]
    return ids, weights


def _top_k(logits: Logits, k: int) -> tuple[NDArray[np.intp], Logits]:
    """Ids of the k largest, rising, and their logits."""
    size = len(logits)
    if not 0 < k < size:
        return np.arange(size), logits
    ids = np.sort(np.argpartition(logits, size - k)[size - k :])
    return ids, logits[ids]


def _weights(logits: Logits, peak: float, temperature: float) -> NDArray[np.float32]:
    # Differences to the peak are never above 0, so a temperature near 0 makes a weight 0 and never a NaN.
    with np.errstate(over="ignore", under="ignore"):
        return np.exp((logits - np.float32(peak)) / np.float32(max(temperature, SMALLEST)))


def _nucleus(weights: NDArray[np.float32], enough: float) -> NDArray[np.intp]:
    """Indices, rising, of the fewest largest weights whose sum reaches `enough`; at least one, all if it never does."""
    # All that weigh less than this are together less than what may be left out, so none of them is needed.
    least = (float(weights.sum(dtype=np.float64)) - enough) / len(weights)
    likely = np.flatnonzero(weights >= least)
    weights, size, guess = weights[likely], len(likely), FIRST_GUESS
    while True:
        order = np.argpartition(weights, size - guess)[size - guess :] if guess < size else np.arange(size)
        order = order[np.argsort(-weights[order], kind="stable")]
        mass = np.cumsum(weights[order], dtype=np.float64)
        if mass[-1] >= enough or guess >= size:
            return np.sort(likely[order[: int(np.searchsorted(mass, enough)) + 1]])
        guess *= 8
