"""Compares our numbers with llama.cpp's on one GGUF file: logits over a text, and greedy answers to ten prompts.

    python tools/compare_llama_cpp.py ds4-tiny --peer OTHER/bin/python

`--peer` is a Python that has llama-cpp-python (default: this one). Models that know no chat format get random tokens
with `--random`. Both sides read the same token ids; ours runs the numpy ops with the cache simulation off, which
llama.cpp does not have.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds4_backend import catalog
from ds4_backend.chat import render
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.model import Model, load_model
from ds4_backend.tokenizer import Tokenizer
from ds4_backend.types import Message, Request, Tool

PEER = Path(__file__).with_name("llama_cpp_peer.py")
PAD = -1
TOKENS = 48
"""The most tokens of an answer."""
RANDOM_TEXT, RANDOM_PROMPT = 300, 40

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = (Tool("get_weather", "Get the weather for a city.", CITY),)
QUESTIONS: tuple[tuple[str, tuple[Tool, ...]], ...] = (
    ("Hello!", ()),
    ("What is 3 times 12?", ()),
    ("What's 12 plus 30?", ()),
    ("What is the capital of Norway?", ()),
    ("What is the opposite of early?", ()),
    ("Sort these numbers: 41, 7, 88, 23", ()),
    ("Repeat this: the quiet river carried a lantern", ()),
    ("Anna lives in Rome. Bob lives in Cairo. Leo lives in Oslo.\nWhere does Bob live?", ()),
    ("What is the weather in Boston?", WEATHER),
    ("Tell me a joke.", WEATHER),
)
TEXT = " ".join(
    f"The code for {thing} is {code}. {name} opened a {thing} near the {place}. Later the {place} was quiet."
    for thing, code, name, place in (
        ("bread", "KT-41", "Anna", "river"),
        ("window", "RB-907", "Leo", "tower"),
        ("lemon", "AF-22", "Nina", "castle"),
        ("rocket", "MP-650", "Oscar", "valley"),
        ("violin", "DH-318", "Clara", "market"),
        ("ticket", "VS-77", "Henry", "station"),
        ("kettle", "LN-504", "Paula", "bridge"),
        ("planet", "EG-163", "Simon", "garden"),
        ("pocket", "WD-89", "Laura", "school"),
        ("puzzle", "CN-246", "Edgar", "library"),
        ("whistle", "TB-35", "Diana", "island"),
        ("basket", "HR-712", "Victor", "temple"),
    )
)


@dataclass(frozen=True, slots=True)
class Work:
    """`text` ids [N] whose logits are compared, and prompts to continue; `words` are the same prompts as strings, if
    they are any."""

    text: list[int]
    prompts: list[list[int]]
    eos: int
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """Logits float32 [N, V] of the text, the continuation of each prompt, and the ids of each string."""

    logits: NDArray[np.float32]
    answers: list[list[int]]
    ids: list[list[int]]


def main() -> None:
    """Runs both sides and prints what agrees."""
    options = read_options()
    path = catalog.resolve(options.model)
    with open_gguf(path) as file:
        metadata = dict(file.metadata)
    # A random model's vocabulary may be none that a tokenizer can be built of.
    tokenizer = None if options.random else Tokenizer.from_gguf(metadata)
    work = chat_work(tokenizer, metadata.get("ds4.dialect", "preview")) if tokenizer else random_work(metadata)
    theirs, version = llama_cpp(path, work, options.peer, options.float_cache)
    ours = ourselves(load_model(path, ops="numpy", cache_simulation=False), work)
    print(f"{path.name}: {len(work.text)} tokens of text; llama-cpp-python {version}")
    print(logit_lines(ours.logits, theirs.logits))
    print(answer_lines(ours, theirs, tokenizer))


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", default=catalog.TINY)
    parser.add_argument("--peer", default=sys.executable, help="a Python that has llama-cpp-python")
    parser.add_argument("--random", action="store_true", help="random token ids in place of conversations")
    parser.add_argument("--float-cache", action="store_true", help="llama.cpp's cache in float32, not float16")
    return parser.parse_args()


def chat_work(tokenizer: Tokenizer, dialect: str) -> Work:
    """The questions as chats, and a document with one."""

    asked = (*QUESTIONS, (f"{TEXT}\n\nQuestion: What is the code for violin?", ()))
    requests = [Request((Message("user", question),), tools, thinking=False) for question, tools in asked]
    rendered = [render(request, dialect) for request in requests]
    *prompts, text = (tokenizer.encode_segments(prompt.segments) for prompt in rendered)
    return Work(text, prompts, tokenizer.eos, tuple(prompt.text for prompt in rendered[:-1]))


def random_work(metadata: Mapping[str, Any]) -> Work:
    """As many token ids from a fixed seed."""
    rng, size = np.random.default_rng(1), len(metadata["tokenizer.ggml.tokens"])
    text, *prompts = (rng.integers(0, size, length).tolist() for length in (RANDOM_TEXT, *[RANDOM_PROMPT] * 10))
    return Work(text, prompts, int(metadata["tokenizer.ggml.eos_token_id"]))


def ourselves(model: Model, work: Work) -> Result:
    """Our logits and answers."""
    sequence = model.new_sequence()
    step = model.prefill_tokens
    parts = [work.text[start : start + step] for start in range(0, len(work.text), step)]
    logits = np.concatenate([model.forward([(sequence, part)], every=True) for part in parts])
    sequence.release()
    return Result(logits, [greedy(model, prompt, work.eos) for prompt in work.prompts], work.prompts)


def greedy(model: Model, prompt: list[int], eos: int) -> list[int]:
    """The likeliest tokens after a prompt, at most TOKENS, the end-of-sentence one included."""
    sequence = model.new_sequence()
    answer = [int(model.forward([(sequence, prompt)])[0].argmax())]
    while len(answer) < TOKENS and answer[-1] != eos:
        answer.append(int(model.forward([(sequence, answer[-1:])])[0].argmax()))
    sequence.release()
    return answer


def llama_cpp(path: Path, work: Work, python: str, float_cache: bool) -> tuple[Result, str]:
    """llama.cpp's logits and answers, and the version of its Python package."""
    words = np.array(work.words, np.str_)
    arrays: dict[str, Any] = {"text": work.text, "prompts": padded(work.prompts), "words": words}
    with tempfile.TemporaryDirectory(prefix="ds4-compare-") as folder:
        given, found = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(given, **arrays, tokens=TOKENS, eos=work.eos, float_cache=float_cache)
        subprocess.run([python, PEER, path.resolve(), given, found], check=True)
        with np.load(found) as out:
            return Result(out["logits"], bare(out["answers"]), bare(out["ids"])), str(out["version"])


def padded(rows: list[list[int]]) -> NDArray[np.int64]:
    """Rows of different lengths as one array, filled up with PAD."""
    longest = max(map(len, rows), default=0)
    return np.array([row + [PAD] * (longest - len(row)) for row in rows], np.int64)


def bare(rows: NDArray[np.int64]) -> list[list[int]]:
    """The rows without their PADs."""
    return [[id for id in row.tolist() if id != PAD] for row in rows]


def logit_lines(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> str:
    """How far apart the logits are, position by position."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    same = (a.argmax(axis=1) == b.argmax(axis=1)).mean()
    p, q = log_softmax(a), log_softmax(b)
    kl = (np.exp(p) * (p - q)).sum(axis=1)
    return (
        f"  logits: cosine mean {cosine.mean():.6f}, lowest {cosine.min():.6f}; largest difference "
        f"{np.abs(a - b).max():.2g} (logits up to {np.abs(a).max():.1f})\n"
        f"  likeliest token equal at {same:.2%} of the positions; KL mean {kl.mean():.6f}, largest {kl.max():.5f} nats"
    )


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def answer_lines(ours: Result, theirs: Result, tokenizer: Tokenizer | None) -> str:
    """Which answers are equal, and where the others part."""
    pairs = list(zip(ours.answers, theirs.answers, strict=True))
    same_ids = sum(a == b for a, b in zip(ours.ids, theirs.ids, strict=False))
    first = sum(a[0] == b[0] for a, b in pairs)
    equal = sum(a == b for a, b in pairs)
    lines = [f"  prompts: token ids equal in {same_ids} of {len(theirs.ids)}"] if tokenizer else []
    lines += [f"  greedy: first token equal in {first} of {len(pairs)}, whole answer in {equal} of {len(pairs)}"]
    for a, b in pairs:
        parted = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
        verdict = "equal" if a == b else f"parts after {parted}"
        lines.append(f"    {verdict}, {len(a)} tokens" + (f": {tokenizer.decode(a)!r}" if tokenizer else ""))
        if a != b and tokenizer:
            lines.append(f"      llama.cpp: {tokenizer.decode(b)!r}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
