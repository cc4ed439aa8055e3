"""What the sampling options may be, and what they are when the caller asks for nothing: the file's wish, else a table.

It knows GGUF metadata keys and prompt dialects; it draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ds4_backend.errors import FileError
from ds4_backend.options import LOGIT_BIAS, OPTIONS, SAMPLING, Option
from ds4_backend.types import Request, Sampling

REFERENCE = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, presence_penalty=0.0, frequency_penalty=0.0)
"""Plain sampling, as the preview's model card advises; fills whatever else is left open."""

BY_DIALECT = {
    "preview": REFERENCE,  # DeepSeek-V4-Flash model card, April 2026
    "0731": Sampling(temperature=1.0, top_p=0.95),  # the 0731 bundle's generation_config.json
}

LOW_BITS_MIN_P = 0.05
"""For experts of two or three bits: cuts the tail of unlikely tokens that rounding lifts. antirez/ds4's default."""

LOW_BIT_FORMATS = ("IQ1_", "IQ2_", "IQ3_", "Q2_", "Q3_", "TQ1_", "TQ2_")

KEYS = {
    "temperature": "general.sampling.temp",
    "top_p": "general.sampling.top_p",
    "top_k": "general.sampling.top_k",
    "min_p": "general.sampling.min_p",
}
"""llama.cpp's keys for the sampling that a model's maker advises."""


def fault(sampling: Sampling) -> str | None:
    """What is wrong with the first option outside its range: name, value and range. None if all is well."""
    faults = (_outside(name, getattr(sampling, name), option) for name, option in SAMPLING.items())
    return next((said for said in faults if said), None)


def request_fault(request: Request, vocab_size: int) -> str | None:
    """The same for a whole request: its sampling options, counts and biased tokens."""
    said = (
        _outside("n", request.n, OPTIONS["n"])
        or _outside("logprobs", request.logprobs, OPTIONS["top_logprobs"])
        or _outside("max_thinking_tokens", request.max_thinking_tokens, OPTIONS["max_thinking_tokens"])
    )
    return said or fault(request.sampling) or _bias_fault(request.sampling.logit_bias, vocab_size)


def _outside(name: str, value: Any, option: Option) -> str | None:
    whole = isinstance(option.high, int)
    assert option.low is not None and option.high is not None
    if value is None or (_is_number(value, whole) and option.low <= value <= option.high):
        return None
    number = "an integer" if whole else "a number"
    return f"{name} is {value!r}; it must be {number}, {option.range}"


def _bias_fault(biases: Mapping[int, float], vocab_size: int) -> str | None:
    low, high = LOGIT_BIAS
    for token, bias in biases.items():
        if not _is_number(token, whole=True) or not 0 <= token < vocab_size:
            return f"logit_bias names token {token!r}; the model's tokens are the integers 0 to {vocab_size - 1}"
        if not _is_number(bias, whole=False) or not low <= bias <= high:
            return f"logit_bias of token {token} is {bias!r}; it must be a number, {low:.0f} to {high:.0f}"
    return None


def _is_number(value: Any, whole: bool) -> bool:
    kind: Any = int if whole else (int, float)
    return isinstance(value, kind) and not isinstance(value, bool)


def sampling_defaults(metadata: Mapping[str, Any], dialect: str, expert_formats: Iterable[str] = ()) -> Sampling:
    """Defaults for one file: its own keys, then the dialect's row, then the rule for low-bit experts.

    `expert_formats` are the block format names of the routed experts (`IQ2_XXS`). The seed stays open.

    Raises FileError when the file advises a value that is out of range.
    """
    row = BY_DIALECT.get(dialect, REFERENCE)
    low = any(name.startswith(LOW_BIT_FORMATS) for name in expert_formats)
    found = {name: metadata[key] for name, key in KEYS.items() if key in metadata}
    if "top_k" in found:
        found["top_k"] = int(found["top_k"])
    chosen = Sampling(
        temperature=found.get("temperature", row.temperature),
        top_p=found.get("top_p", row.top_p),
        top_k=found.get("top_k", row.top_k),
        min_p=found.get("min_p", LOW_BITS_MIN_P if low else row.min_p),
    )
    if said := fault(chosen):
        raise FileError(f"the file's advice on sampling is unusable: {said}")
    return chosen
