"""Whether some ops compute what the numpy ops compute: networks of one random layer, run through both.

One layer keeps rounding flips of the cache simulation from spreading; each kind of layer, each weight format, reading a
prompt and decoding are cases of their own. Where choices are `forced` (all experts used, all rows attended) no near tie
can send two right implementations different ways; without that, single tokens may differ.

A case passes when every token's logits point the same way (cosine) and the error is at most twice the error that numpy
makes when every op's inputs are rounded to float16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds4_backend.gguf.geometry import CSA, HCA, SLIDING, Geometry
from ds4_backend.gguf.reader import Tensor
from ds4_backend.gguf.shapes import TINY
from ds4_backend.measure.synth import random_tensors
from ds4_backend.model import Model, Sequence
from ds4_backend.model.weights import bind
from ds4_backend.ops import make_ops
from ds4_backend.ops.numpy import NumpyOps

KINDS = {"window": SLIDING, "csa": CSA, "hca": HCA}
PROMPT, DECODED, CROWD, CROWD_STEPS = 300, 8, 8, 4
"""Tokens of the prompt (over two pages), single steps after it, and conversations that decode side by side."""
CHUNK = 173
"""Tokens of the prompt read at once: windows of all kinds stay open between two chunks."""
LEAST_COSINE = 0.9995
ROUNDING = 2e-5
"""Relative error below which nothing is asked: sums in another order."""
ROUNDED_INPUTS = {
    "hc_pre": (0,), "hc_post": (0, 1), "project": (0,), "queries": (0,), "window_rows": (0,), "compress": (0, 1),
    "select": (0, 2), "attend": (0, 1), "grouped_output": (0,), "route": (0,), "experts": (0, 2), "head": (0,),
}  # fmt: skip
"""Arguments of each op that are activations."""

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Case:
    """One network: the layer's kind, the recipe of its weights, the cache simulation, choices forced, hash-routed."""

    kind: str
    recipe: str
    simulated: bool
    forced: bool
    hashed: bool = False

    def __str__(self) -> str:
        words = [self.kind, self.recipe, "simulated" if self.simulated else "exact"]
        return " ".join(words + ["forced"] * self.forced + ["hashed"] * self.hashed)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one phase of a case: the least and the middle cosine over its tokens, the relative error, and
    numpy's own with float16 inputs. `trouble` is the exception where the ops raised one."""

    case: str
    phase: str
    cosine: float
    middle: float
    error: float
    half_error: float
    ok: bool
    trouble: str = ""


def cases(recipes: tuple[str, ...] = ("q2", "q4", "q8", "mxfp4")) -> Iterator[Case]:
    """Every kind of layer with every recipe, forced; and what choices and a hash router add, once each."""
    for recipe in recipes:
        for kind in KINDS:
            for simulated in (False, True):
                yield Case(kind, recipe, simulated, forced=True)
    yield Case("window", recipes[0], False, forced=True, hashed=True)
    yield Case("csa", recipes[0], False, forced=False)
    yield Case("csa", recipes[0], True, forced=False)


def compare(case: Case, ops: str, base: Geometry = TINY, seed: int = 0) -> list[Result]:
    """Run one case through the ops called `ops` and through numpy; a result for each phase.

    `base` gives the widths. Whatever the ops raise becomes a failed result: the next case may still be worth running.
    """
    g = one_layer(case, base)
    tensors = random_tensors(g, case.recipe, seed)
    wanted = _run(_model(tensors, g, NumpyOps(g, cache_simulation=case.simulated)), seed)
    half = _run(_model(tensors, g, HalfInputs(g, cache_simulation=case.simulated)), seed)
    try:
        model = _model(tensors, g, make_ops(ops, g, cache_simulation=case.simulated))
        found = _run(model, seed)
        model.release()
    except Exception as error:  # a kernel that does not compile, a device out of memory: that is the finding
        trouble = f"{type(error).__name__}: {error}"
        return [Result(str(case), "all", 0.0, 0.0, np.inf, np.inf, False, trouble[:2000])]
    return [_judged(case, phase, found[phase], wanted[phase], half[phase]) for phase in wanted]


def one_layer(case: Case, base: Geometry) -> Geometry:
    """The geometry of a case: one layer of its kind, and so few experts or rows that all are used where forced."""
    return replace(
        base,
        block_count=1,
        attention_compress_ratios=(KINDS[case.kind],),
        swiglu_clamp_exp=base.swiglu_clamp_exp[:1],
        hash_layer_count=int(case.hashed),
        vocab_size=1024,
        expert_count=8,
        expert_used_count=8 if case.forced and not case.hashed else 3,
        attention_indexer_top_k=512 if case.forced else 16,
    )


def _model(tensors: dict[str, Tensor], g: Geometry, ops: Any) -> Model:
    return Model(g, ops, bind(tensors, g, ops))


def _run(model: Model, seed: int) -> dict[str, Float]:
    """Logits [tokens, V] of each phase, the same tokens whatever the ops."""
    ids = np.random.default_rng(seed).integers(0, model.geometry.vocab_size, PROMPT + DECODED + CROWD_STEPS).tolist()
    sequence = model.new_sequence()
    phases = {"prefill": _read(model, sequence, ids[:PROMPT])}
    steps = [model.forward([(sequence, [token])]) for token in ids[PROMPT : PROMPT + DECODED]]
    phases["decode"] = np.concatenate(steps)
    crowd = [sequence.fork() for _ in range(CROWD)]
    rounds = [
        model.forward([(one, [(token + place) % model.geometry.vocab_size]) for place, one in enumerate(crowd)])
        for token in ids[PROMPT + DECODED :]
    ]
    phases["batch"] = np.concatenate(rounds)
    for one in (*crowd, sequence):
        one.release()
    return phases


def _read(model: Model, sequence: Sequence, ids: list[int]) -> Float:
    """Logits after each token."""
    parts = [model.forward([(sequence, ids[at : at + CHUNK])], every=True) for at in range(0, len(ids), CHUNK)]
    return np.concatenate(parts)


def _judged(case: Case, phase: str, found: Float, wanted: Float, half: Float) -> Result:
    cosines = _cosines(found, wanted)
    error, allowed = _error(found, wanted), _error(half, wanted)
    straight = cosines.min() if case.forced else np.median(cosines)
    ok = bool(np.isfinite(found).all() and straight >= LEAST_COSINE and error <= max(2 * allowed, ROUNDING))
    least, middle = float(cosines.min()), float(np.median(cosines))
    return Result(str(case), phase, least, middle, float(error), float(allowed), ok)


def _cosines(a: Float, b: Float) -> NDArray[np.float64]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1)), nan=0.0)


def _error(found: Float, wanted: Float) -> float:
    return float(np.linalg.norm(found.astype(np.float64) - wanted) / np.linalg.norm(wanted.astype(np.float64)))


def _half(array: Any) -> Any:
    return array.astype(np.float16).astype(np.float32)


def _with_rounded(name: str, places: tuple[int, ...]) -> Callable[..., Any]:
    plain = getattr(NumpyOps, name)

    def op(self: NumpyOps, *arguments: Any) -> Any:
        return plain(self, *(_half(a) if i in places else a for i, a in enumerate(arguments)))

    return op


HalfInputs: Any = type("HalfInputs", (NumpyOps,), {n: _with_rounded(n, p) for n, p in ROUNDED_INPUTS.items()})
"""The numpy ops with the activations rounded to float16 on their way into every op."""
