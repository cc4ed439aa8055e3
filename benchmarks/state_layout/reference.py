"""The same layer in numpy float32, token by token, one conversation, without pages or rings."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from layer import FREQS, TOP

F16, F32 = np.float16, np.float32


def rotate(x: np.ndarray, position: int, sign: float = 1.0) -> np.ndarray:
    """Rotate the last 64 channels of [..., width], adjacent pairs."""
    angle = F32(position) * FREQS
    cos, sin = np.cos(angle), np.sin(angle) * F32(sign)
    out = x.copy()
    a, b = x[..., -64::2], x[..., -63::2]
    out[..., -64::2], out[..., -63::2] = a * cos - b * sin, a * sin + b * cos
    return out


@dataclass
class Compressor:
    """Keeps every pair; row j of CSA pools 8 tokens (the former four by their first half), of HCA 128."""

    ratio: int
    overlap: bool
    width: int
    ape: np.ndarray
    norm: np.ndarray
    values: list[np.ndarray] = field(default_factory=list)
    gates: list[np.ndarray] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)

    def push(self, value: np.ndarray, gate: np.ndarray) -> None:
        p, w = len(self.values), self.width
        self.values.append(value)
        self.gates.append(gate + self.ape[p % self.ratio])
        if p % self.ratio != self.ratio - 1:
            return
        first = p + 1 - self.ratio
        half = slice(w, None) if self.overlap else slice(0, w)
        items = [(self.values[t][half], self.gates[t][half]) for t in range(first, p + 1)]
        if self.overlap and first:
            items += [(self.values[t][:w], self.gates[t][:w]) for t in range(first - self.ratio, first)]
        v, z = (np.stack(i) for i in zip(*items, strict=True))
        e = np.exp(z - z.max(0))
        pooled = (e * v).sum(0) / e.sum(0)
        row = pooled / np.sqrt((pooled * pooled).mean() + F32(1e-6)) * self.norm
        self.rows.append(rotate(row, first).astype(F16))


def index_scores(q: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """sum_h w_h relu(q_h . row): q [64, 128], rows [n, 128]."""
    return weights @ np.maximum(q.astype(F32) @ rows.astype(F32).T, 0)


def best_rows(scores: np.ndarray) -> np.ndarray:
    """Rows of the 512 highest scores in row order, ties to the lower row."""
    return np.sort(np.argsort(-scores, kind="stable")[:TOP])


def attention(q: np.ndarray, rows: np.ndarray, sinks: np.ndarray, position: int) -> np.ndarray:
    """Heads [64, 512] over rows [n, 512] with sinks, rotated back."""
    s = q.astype(F32) @ rows.astype(F32).T * F32(512**-0.5)
    top = np.maximum(s.max(1), sinks)
    e = np.exp(s - top[:, None])
    out = e @ rows.astype(F32) / (e.sum(1) + np.exp(sinks - top))[:, None]
    return rotate(out, position, -1.0)
