"""Part `greedy`: the embedded model's answers on this device beside the numpy ops', token by token.

`margin` is the least distance, over an answer's tokens, between the numpy op's two likeliest: a near tie can fall
either way. `half` says the same of the numpy ops when every op's inputs are rounded to float16, as a GPU may do it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import options
import results
from numpy.typing import NDArray

import ds4_backend
from ds4_backend.catalog.profile import profile_of
from ds4_backend.chat import render
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.measure.compare import HalfInputs
from ds4_backend.measure.frontiers import prefill
from ds4_backend.model import Model, load_model
from ds4_backend.tokenizer import Tokenizer
from ds4_backend.types import Message, Request

PROMPTS = (
    "Say exactly: snorkelwhack", "What is 7 + 5?", "Repeat: The quick brown fox jumps over the lazy dog.",
    "Who are you?", "Which letters are in 'pandas'?", "Extract the name and the age as JSON: Laura is 8.",
    "Write these in reverse order: pear, kiwi, plum", "Where is the key? The key is in the blue box.",
    "Please repeat after me: Xylophones quietly vex jumbo pandas", "How do I use this from Python?",
    "Spell the word lantern.", "Which is larger, 41 or 14?", "Count the words: one two three four",
    "Repeat: /var/log/nginx/access.log.3", "What can you do?", "Copy this id: 9f3c-77ab-e01d",
)  # fmt: skip
TEXTS = ("", "The river runs past the old mill and the orchard. " * 40)
"""System texts: none, and one longer than the window."""
TOKENS = 64
Logits = NDArray[np.float32]
ASSET = Path(ds4_backend.__file__).parent / "assets" / "ds4-tiny.gguf"


def answers(told: Any) -> dict[str, Any]:
    """Every prompt, alone and behind a system text longer than the window."""
    with open_gguf(ASSET) as file:
        profile, tokenizer = profile_of(file), Tokenizer.from_gguf(file.metadata)
        names = ("numpy", told.ops, "numpy")
        reference, other, half = (load_model(file, ops=n, cache_simulation=profile.cache_simulation) for n in names)
        half.ops = HalfInputs(half.geometry, cache_simulation=profile.cache_simulation)
        rows = []
        for text in PROMPTS[:2] if told.quick else PROMPTS:
            for system in TEXTS:
                messages = [Message("system", system)] * bool(system) + [Message("user", text)]
                request = Request(tuple(messages), thinking=False)
                ids = tokenizer.encode_segments(render(request, profile.dialect).segments)
                wanted = answer(reference, ids, tokenizer.eos)
                found, rounded = (compared(wanted, one, ids) for one in (other, half))
                rows.append({"prompt": text, "prompt_tokens": len(ids), **found, "half": rounded})
                results.partly("greedy", {"rows": rows})
    return {
        "equal": sum(row["equal"] for row in rows), "equal_of_half": sum(row["half"]["equal"] for row in rows),
        "of": len(rows), "rows": rows,
    }  # fmt: skip


def answer(model: Model, ids: list[int], eos: int) -> list[Logits]:
    """Logits at every place of the greedy answer, the end's included."""
    sequence = model.new_sequence()
    logits = [prefill(model, sequence, ids)]
    while len(logits) < TOKENS and (best := int(logits[-1].argmax())) != eos:
        logits.append(model.forward([(sequence, [best])])[0])
    sequence.release()
    return logits


def compared(wanted: list[Logits], other: Model, ids: list[int]) -> dict[str, Any]:
    """Another model's greedy tokens, to the first that differs."""
    sequence, error, margin, count = other.new_sequence(), 0.0, float("inf"), 0
    found = prefill(other, sequence, ids)
    for place, logits in enumerate(wanted):
        error = max(error, float(np.abs(logits - found).max()))
        second, first = np.sort(logits)[-2:]
        margin = min(margin, float(first - second))
        if found.argmax() != logits.argmax():
            break
        count += 1
        if place + 1 < len(wanted):
            found = other.forward([(sequence, [int(logits.argmax())])])[0]
    sequence.release()
    return {"equal": count == len(wanted), "tokens": count, "largest_difference": error, "margin": margin}


if __name__ == "__main__":
    told = options.read()
    results.attempt("greedy", lambda: answers(told))
