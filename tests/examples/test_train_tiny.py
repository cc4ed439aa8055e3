"""The training example: its network is the engine's, its prompts are the engine's, and its pipeline runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the training example needs PyTorch")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "train-tiny"
sys.path.insert(0, str(EXAMPLE))

from ds4_tiny import checkpoint  # noqa: E402
from ds4_tiny.network import Network  # noqa: E402
from ds4_tiny.rounding import hadamard, round_index, round_rows  # noqa: E402
from ds4_tiny.shape import Shape  # noqa: E402
from ds4_tiny.weights import new_weights  # noqa: E402

from ds4_backend.convert.converter import convert  # noqa: E402
from ds4_backend.model import load_model  # noqa: E402
from ds4_backend.ops import simulate  # noqa: E402

SMALL = Shape(
    vocab=320, hidden=64, heads=4, head=80, rotary=16, query_rank=32, groups=2, group_rank=16, index_heads=4,
    index_width=32, index_top=24, experts=4, expert_width=32, hashed=2, ratios=(0, 4, 128, 4),
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def lively(shape: Shape, seed: int = 0) -> dict[str, Any]:
    """Weights with nothing left at its quiet starting value, as training would leave them."""
    weights = new_weights(shape, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    for name, value in weights.items():
        if value.dtype == torch.float32:
            value += torch.randn(value.shape, generator=generator) * (0.1 if value.ndim == 1 else 0.02)
        if name.endswith(("o_b_proj.weight", "down_proj", "down_proj.weight")):
            value *= 5
    return {name: value.half().float() if value.dtype == torch.float32 else value for name, value in weights.items()}


def engine(tmp_path: Path, shape: Shape, weights: dict[str, Any], simulated: bool) -> Any:
    """The engine's model of these weights, through the checkpoint and the converter."""
    folder, out = tmp_path / "hf", tmp_path / "small.gguf"
    checkpoint.save(folder, shape, weights)
    convert(folder, out, "f32", dialect="0731", cache_simulation=simulated)
    return load_model(out, ops="numpy")


def ids_of(count: int, seed: int = 3) -> list[int]:
    return np.random.default_rng(seed).integers(0, SMALL.vocab, count).tolist()


@pytest.mark.parametrize("simulated", [False, True])
def test_the_network_is_the_engines(tmp_path, simulated):
    weights, ids = lively(SMALL), ids_of(384)
    model = engine(tmp_path, SMALL, weights, simulated)
    state = model.new_sequence()
    parts = [model.forward([(state, ids[:200])], every=True), model.forward([(state, ids[200:])], every=True)]
    theirs = np.concatenate(parts)
    with torch.no_grad():
        ours = Network(SMALL, weights, simulate=simulated).logits(torch.tensor([ids]))[0].numpy()
    assert theirs.std() > 0.05
    if not simulated:
        assert np.abs(ours - theirs).max() < 1e-3
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > (0.97 if simulated else 0.999)


def test_rows_are_rounded_as_the_engine_rounds_them():
    rows = torch.randn(50, 80) * torch.logspace(-3, 2, 50)[:, None]
    assert np.array_equal(round_rows(rows, 16).numpy(), simulate.round_rows(rows.numpy(), 16))
    index = torch.randn(400, 32)
    ours, theirs = round_index(index, hadamard(32)).numpy(), simulate.round_indexer(index.numpy())
    assert (np.abs(ours - theirs) > 1e-6).mean() < 0.01  # the engine mixes in float64: rare ties fall otherwise


def test_a_gradient_passes_through_rounding_unchanged():
    rows = torch.randn(3, 80, requires_grad=True)
    round_rows(rows, 16).sum().backward()
    assert torch.equal(rows.grad, torch.ones_like(rows))
