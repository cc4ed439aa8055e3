"""What the options of a request may be. Nothing else, so that a front end can show them without loading an engine."""

from __future__ import annotations

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The levels of `types.Effort`."""

RANGES: dict[str, tuple[float, float, str]] = {
    "temperature": (0.0, 2.0, "0 is greedy"),
    "top_p": (0.0, 1.0, "1 is off"),
    "top_k": (0, 1 << 20, "0 is off"),
    "min_p": (0.0, 1.0, "0 is off"),
    "presence_penalty": (-2.0, 2.0, "0 is off"),
    "frequency_penalty": (-2.0, 2.0, "0 is off"),
    "seed": (0, (1 << 63) - 1, "the same seed draws the same tokens"),
}
"""What each sampling option may be, ends included, and what to know of it. Whole numbers where the ends are."""

LOGIT_BIAS = (-100.0, 100.0)
"""What may be added to a token's logit, ends included; OpenAI's range."""

COUNTS: dict[str, tuple[int, int, str]] = {
    "n": (1, 1, "a request has one answer: ask again for another"),
    "logprobs": (0, 20, "the alternatives listed with each token"),
    "max_thinking_tokens": (0, (1 << 63) - 1, "0 closes the thinking at once"),
}
"""The same for the counts of a request that are not about sampling."""


def words(name: str) -> str:
    """The range of an option as people read it: `0 to 2, 0 is greedy`."""
    low, high, note = (RANGES | COUNTS)[name]
    top = "2^63-1" if high == (1 << 63) - 1 else str(int(high))
    return f"{int(low)} to {top}, {note}" if low != high else f"{top}; {note}"
