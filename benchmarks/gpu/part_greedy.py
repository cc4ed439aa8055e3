"""Part `greedy`: the embedded model's answers on this device beside the numpy ops', token by token.

Where they part, `margin` says how far apart the numpy op's two likeliest tokens were: a near tie can fall either way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import options
import results

import ds4_backend
from ds4_backend.catalog.profile import profile_of
from ds4_backend.chat import render
from ds4_backend.gguf.reader import open_gguf
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
TOKENS = 64
ASSET = Path(ds4_backend.__file__).parent / "assets" / "ds4-tiny.gguf"


def answers(told: Any) -> dict[str, Any]:
    """Every prompt, plain and behind a text longer than the window, by both."""
    with open_gguf(ASSET) as file:
        profile, tokenizer = profile_of(file), Tokenizer.from_gguf(file.metadata)
        models = [load_model(file, ops=ops, cache_simulation=profile.cache_simulation) for ops in ("numpy", told.ops)]
        rows = []
        for text in PROMPTS[:2] if told.quick else PROMPTS:
            for filler in ("", "The river runs past the old mill and the orchard. " * 40):
                request = Request((Message("user", filler + text),), thinking=False)
                ids = tokenizer.encode_segments(render(request, profile.dialect).segments)
                rows.append({"prompt": text, "prompt_tokens": len(ids), **compared(*models, ids, tokenizer.eos)})
                results.partly("greedy", {"rows": rows})
    return {"equal": sum(row["equal"] for row in rows), "of": len(rows), "rows": rows}


def compared(reference: Model, other: Model, ids: list[int], eos: int) -> dict[str, Any]:
    """Greedy tokens of both, to the end or the first that differs."""
    sequences = [model.new_sequence() for model in (reference, other)]
    logits = [prefill(model, sequence, ids) for model, sequence in zip((reference, other), sequences, strict=True)]
    error, count, equal = 0.0, 0, True
    while equal and count < TOKENS:
        error = max(error, float(np.abs(logits[0] - logits[1]).max()))
        best, found = (int(one.argmax()) for one in logits)
        equal = best == found
        count += equal
        if best == eos or not equal:
            break
        logits = [m.forward([(s, [best])])[0] for m, s in zip((reference, other), sequences, strict=True)]
    second, first = np.sort(logits[0])[-2:]
    for sequence in sequences:
        sequence.release()
    return {"equal": equal, "tokens": count, "largest_difference": error, "margin": float(first - second)}


if __name__ == "__main__":
    told = options.read()
    results.attempt("greedy", lambda: answers(told))
