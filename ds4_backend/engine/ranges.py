"""What the sampling options may be. Nothing else, so that a front end can show them without loading an engine."""

from __future__ import annotations

RANGES: dict[str, tuple[float, float, str]] = {
    "temperature": (0.0, 2.0, "0 is greedy"),
    "top_p": (0.0, 1.0, "1 is off"),
    "top_k": (0, 1 << 20, "0 is off"),
    "min_p": (0.0, 1.0, "0 is off"),
    "seed": (0, (1 << 63) - 1, "the same seed draws the same tokens"),
}
"""What each option may be, ends included, and what to know of it."""


def words(name: str) -> str:
    """The range of an option as people read it: `0 to 2, 0 is greedy`."""
    low, high, note = RANGES[name]
    top = "2^63-1" if high == (1 << 63) - 1 else str(int(high))
    return f"{int(low)} to {top}, {note}"
