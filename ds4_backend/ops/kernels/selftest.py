"""Each kernel against the numpy op, on small random inputs: for `doctor`, on the machine at hand. It knows no files.

A test runs the same calls of the ops contract on both. Tests are grouped by the family of kernels that stock MLX
operations can replace (`KernelOps.without`); for `attention` that means the mlx ops altogether.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from ds4_backend.errors import EngineError
from ds4_backend.gguf.encode import quantize
from ds4_backend.gguf.formats import FORMATS
from ds4_backend.gguf.geometry import CSA, HCA, SLIDING
from ds4_backend.gguf.reader import Tensor
from ds4_backend.gguf.shapes import TINY
from ds4_backend.ops.base import Batch, Compressor, Experts, Head, Ops, Router, Span
from ds4_backend.ops.kernels import kernel
from ds4_backend.ops.kernels.bodies import HYPER_ALONE
from ds4_backend.ops.kernels.handles import Columns, Grouped, Normed
from ds4_backend.ops.kernels.kernel import Launcher
from ds4_backend.ops.kernels.ops import KernelOps
from ds4_backend.ops.numpy import NumpyOps

FAMILIES = ("products", "hyper", "experts", "attention")
TOLERANCE = 5e-3
"""Relative error allowed: inputs and rows are float16 in places, 5e-4 a rounding."""
G = replace(
    TINY,
    block_count=3,
    attention_compress_ratios=(SLIDING, CSA, HCA),
    swiglu_clamp_exp=TINY.swiglu_clamp_exp[:3],
    vocab_size=64,
    expert_count=4,
    expert_used_count=2,
)
FEW, MANY = 3, 40
"""Tokens: by the decode kernels, and by prefill's."""

Float = NDArray[np.float32]
Calls = Callable[["Side"], list[Float]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One test: the body's name, its family, the relative error, and what was raised, if anything was."""

    body: str
    family: str
    error: float
    ok: bool
    trouble: str = ""


class Side:
    """One implementation, with random weights drawn by name: both sides draw the same."""

    def __init__(self, ops: Ops) -> None:
        self.ops, self.state = ops, ops.new_state()
        self.state.reserve(4, 1)
        self.step: Any = None

    def begin(self, start: int, count: int) -> None:
        ids = np.arange(start, start + count, dtype=np.int32) % G.vocab_size
        self.step = self.ops.begin(Batch(ids, (Span(0, (2, 1), start, count),)), self.state)

    def array(self, name: str, *shape: int) -> Any:
        """Activations."""
        values = normal(name, *shape)
        return values if isinstance(self.ops, NumpyOps) else mx.array(values)

    def matrix(self, name: str, format: str, *shape: int) -> Any:
        return self.ops.matrix(stored(name, format, *shape))

    def vector(self, name: str, *shape: int) -> Any:
        return self.ops.vector(stored(name, "F32", *shape))

    def host(self, *arrays: Any) -> list[Float]:
        """Results on the host; columns of a stack alone, groups of heads as heads."""
        plain = [a.array[:, a.at : a.at + a.width] if isinstance(a, Columns) else a for a in arrays]
        plain = [a.heads if isinstance(a, Grouped) else a.x if isinstance(a, Normed) else a for a in plain]
        return [np.asarray(a, np.float32) if isinstance(a, np.ndarray) else self.ops.to_host(a) for a in plain]


def normal(name: str, *shape: int) -> Float:
    """Random values that depend on the name alone."""
    seed = [ord(c) for c in name]
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def stored(name: str, format: str, *shape: int) -> Tensor:
    """A random tensor of order 1 / sqrt(in) in a format; vectors near 1."""
    values = normal(name, *shape) * shape[-1] ** -0.5 if len(shape) > 1 else 1 + 0.2 * normal(name, *shape)
    return Tensor(name, shape, FORMATS[format], quantize(values, format))


# What is called -----------------------------------------------------------------------------------------------------


def _project(format: str, tokens: int) -> Calls:
    def calls(side: Side) -> list[Float]:
        side.begin(0, tokens)
        stack = side.ops.stack([stored(n, format, rows, G.embedding_length) for n, rows in (("a", 21), ("b", 7))])
        return side.host(*side.ops.project(side.array("x", tokens, G.embedding_length), stack))

    return calls


def _hyper(tokens: int) -> Calls:
    """Streams collapsed, output spread over them, and once more."""

    def calls(side: Side) -> list[Float]:
        n, d = G.hyper_connection_count, G.embedding_length
        side.begin(0, tokens)
        streams = side.ops.embed(side.matrix("table", "F16", G.vocab_size, d), side.step)
        fn, mixes = stored("fn", "F16", n * (n + 2), n * d), n * (n + 2)
        hc = side.ops.hyper_connection(fn, stored("s", "F32", 3), stored("base", "F32", mixes))
        x, mix = side.ops.hc_pre(streams, hc, side.vector("norm", d))
        streams = side.ops.hc_post(streams, side.array("y", tokens, d), mix)
        second, _ = side.ops.hc_pre(streams, hc, side.vector("norm", d))
        return side.host(x, second)

    return calls


def _spread(side: Side) -> list[Float]:
    """One token: streams collapsed by the products that read them, output spread over them, and once more."""
    n, d = G.hyper_connection_count, G.embedding_length
    mixes = n * (n + 2)
    side.begin(0, 1)
    streams = side.ops.embed(side.matrix("table", "F16", G.vocab_size, d), side.step)
    fn, base = stored("fn", "F16", mixes, n * d), stored("base", "F32", mixes)
    hc = side.ops.hyper_connection(fn, stored("s", "F32", 3), base)
    stack, out = side.ops.stack([stored("a", "Q8_0", 21, d)]), []
    for name in ("y0", "y1", "y2"):
        x, mix = side.ops.hc_pre(streams, hc, side.vector("norm", d))
        out += side.host(*side.ops.project(x, stack))
        streams = side.ops.hc_post(streams, side.array(name, 1, d), mix)
    return out


def _head(side: Side) -> list[Float]:
    n, d = G.hyper_connection_count, G.embedding_length
    side.begin(0, FEW)
    head = Head(
        side.matrix("fn", "F16", n, n * d), side.vector("base", n), side.vector("scale", 1), side.vector("norm", d),
        side.matrix("output", "Q8_0", G.vocab_size, d),
    )  # fmt: skip
    return side.host(side.ops.head(side.array("streams", FEW, n, d), np.array([0, 2], np.int32), head))


def _experts(gate: str, down: str, tokens: int) -> Calls:
    def calls(side: Side) -> list[Float]:
        d, f, count = G.embedding_length, G.expert_feed_forward_length, G.expert_count
        side.begin(0, tokens)
        experts = Experts(
            layer=0,
            gate=side.matrix("g", gate, count, f, d),
            up=side.matrix("u", gate, count, f, d),
            down=side.matrix("d", down, count, d, f),
            shared_gate=side.matrix("sg", "Q8_0", f, d),
            shared_up=side.matrix("su", "Q8_0", f, d),
            shared_down=side.matrix("sd", "Q8_0", d, f),
            clamp=10.0,
        )
        router = Router(side.matrix("r", "F16", count, d), side.vector("bias", count), None)
        x = side.array("x", tokens, d)
        return side.host(side.ops.experts(x, *side.ops.route(x, router, side.step), experts))

    return calls


def _attention(ratio: int) -> Calls:
    """A prompt, then two single tokens: rows are appended, chosen, attended over."""

    def calls(side: Side) -> list[Float]:
        out = []
        for start, count in ((0, 126), (126, 2), (128, 1)):
            side.begin(start, count)
            out.append(_attend(side, ratio, f"{start}"))
        return out

    return calls


def _attend(side: Side, ratio: int, name: str) -> Float:
    ops, layer, d, w = (
        side.ops,
        (SLIDING, CSA, HCA).index(ratio),
        G.attention_key_length,
        G.attention_indexer_key_length,
    )
    low, heads, index = G.attention_q_lora_rank, G.attention_head_count, G.attention_indexer_head_count
    widths = {SLIDING: [], CSA: [2 * d, 2 * d, 2 * w, 2 * w, index], HCA: [d, d]}[ratio]
    tensors = [stored(f"in{i}", "F16", n, G.embedding_length) for i, n in enumerate([low, d, *widths])]
    x = side.array(f"x{name}", len(side.step.ids), G.embedding_length)
    first, kv, *lanes = ops.project(x, ops.stack(tensors))
    normed, q = ops.queries(first, side.vector("qn", low), side.matrix("qb", "F16", heads * d, low), ratio, side.step)
    rows = ops.window_rows(kv, side.vector("kvn", d), ratio, side.step)
    selection = None
    kinds = {SLIDING: [], CSA: [("csa", 2 * d), ("indexer", 2 * w)], HCA: [("hca", d)]}[ratio]
    for i, (kind, width) in enumerate(kinds):
        norm = side.vector(f"{kind}n", width // (2 if ratio == CSA else 1))
        compressor = Compressor(side.vector(f"{kind}a", ratio, width), norm)
        ops.compress(lanes[2 * i], lanes[2 * i + 1], compressor, ratio, 0, kind, side.step)
    if ratio == CSA:
        selection = ops.select(normed, side.matrix("iqb", "F16", index * w, low), lanes[-1], 0, side.step)
    return side.host(ops.attend(q, rows, side.vector("sinks", heads), layer, 0, selection, side.step))[0]


@dataclass(frozen=True, slots=True)
class Trial:
    """One test. `chosen` is how many CSA rows a token attends to; a near tie may choose otherwise on another device, so
    where there are more rows than that the error may be as large as `tolerance`."""

    body: str
    family: str
    calls: Calls
    chosen: int = 64
    tolerance: float = TOLERANCE


def all_tests() -> Iterator[Trial]:
    """All of them."""
    for format in kernel.FORMATS:
        if format != "IQ2_XXS":  # as experts below; it is slow to encode
            yield Trial(f"project {format}", "products", _project(format, FEW))
    yield Trial("decode", "products", _project("Q8_0", MANY))
    yield Trial("hyper few", "hyper", _hyper(FEW))
    yield Trial("hyper alone", "hyper", _hyper(MANY))
    yield Trial("hyper together", "hyper", _hyper(HYPER_ALONE + 2))
    yield Trial("spread", "hyper", _spread)
    yield Trial("head", "hyper", _head)
    for gate, down in (("IQ2_XXS", "Q2_K"), ("Q4_K", "Q4_K"), ("MXFP4", "MXFP4")):
        yield Trial(f"experts {gate}", "experts", _experts(gate, down, FEW))
        yield Trial(f"tiles {gate}", "experts", _experts(gate, down, MANY))
    for name, ratio in (("window", SLIDING), ("csa", CSA), ("hca", HCA)):
        yield Trial(f"attention {name}", "attention", _attention(ratio))
    yield Trial("score and top_k", "attention", _attention(CSA), chosen=8, tolerance=0.1)


def run(launcher: Launcher, names: tuple[str, ...] = ()) -> Iterator[Outcome]:
    """Every test, or those of these bodies."""
    for test in all_tests():
        if not names or test.body in names:
            yield _outcome(test, launcher)


def _outcome(test: Trial, launcher: Launcher) -> Outcome:
    g = replace(G, attention_indexer_top_k=test.chosen)
    wanted = test.calls(Side(NumpyOps(g, cache_simulation=False)))
    try:
        found = test.calls(Side(KernelOps(g, launcher, cache_simulation=False)))
    except (
        EngineError,
        RuntimeError,
        ValueError,
    ) as error:  # a text that does not compile, a size that a device refuses
        return Outcome(test.body, test.family, float("inf"), False, f"{type(error).__name__}: {error}"[:500])
    errors = [np.linalg.norm(f - w) / np.linalg.norm(w) for f, w in zip(found, wanted, strict=True)]
    worst = max(float("inf") if np.isnan(e) else float(e) for e in errors)
    return Outcome(test.body, test.family, worst, worst <= test.tolerance)
