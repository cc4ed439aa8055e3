"""Weights on disk: a Hugging Face folder whose files each stay below a size, and back. It knows no training."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ds4_tiny.shape import Shape
from ds4_tiny.weights import Weights

PART_BYTES = 15_000_000
"""Largest part, in bytes of tensors."""


def save(folder: Path, shape: Shape, weights: Weights) -> None:
    """Write `model-0000N-of-0000M.safetensors` and config.json: float16, float32 for what is small and delicate."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    stored = {name: _stored(name, w) for name, w in weights.items()}
    parts: list[Weights] = [{}]
    room = PART_BYTES
    for name, value in stored.items():
        if value.nbytes > room:
            parts.append({})
            room = PART_BYTES
        parts[-1][name] = value
        room -= value.nbytes
    for number, part in enumerate(parts, 1):
        path = folder / f"model-{number:05}-of-{len(parts):05}.safetensors"
        save_file(part, path.with_suffix(".new"), {"format": "pt"})
        path.with_suffix(".new").replace(path)
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=1) + "\n", "utf-8")


def load(folder: Path) -> Weights:
    """All tensors of a folder in float32 (tables int64)."""
    from safetensors.torch import load_file

    out: Weights = {}
    for path in sorted(folder.glob("*.safetensors")):
        out |= load_file(path)
    return {name: w if w.dtype == torch.int64 else w.float() for name, w in out.items()}


def save_state(out: Path, state: Weights, average: Weights, part: float) -> None:
    """Everything that training goes on from, as state.pt: full precision, the optimiser's memory, the mean."""
    path = out / "state.pt"
    torch.save({"state": state, "average": average, "part": part}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def load_state(out: Path, device: torch.device) -> tuple[Weights, Weights, float] | None:
    """What `save_state` wrote, or nothing if it wrote nothing."""
    path = out / "state.pt"
    if not path.exists():
        return None
    held = torch.load(path, map_location=device, weights_only=True)
    return held["state"], held["average"], held["part"]


def _stored(name: str, weight: torch.Tensor) -> torch.Tensor:
    """Vectors, hyper-connections and position biases stay float32, tables whole numbers."""
    weight = weight.detach().cpu().contiguous()
    if weight.dtype == torch.int64:
        return weight
    delicate = weight.ndim == 1 or "_hc." in name or "hc_head" in name or "position_bias" in name
    return weight.float() if delicate else weight.half()
