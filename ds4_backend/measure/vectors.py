"""Published answers of the model, token by token, and whether this build gives them too.

A vector is a conversation and the first tokens of the official greedy answer with their log-probabilities, in the JSON
of ds4's test vectors (`ds4-official-logprobs-v1`). Tokens are compared by their bytes, so that vectors know no ids. It
knows the network and the prompt format, and no command line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ds4_backend.chat.openai import request_from_openai
from ds4_backend.chat.render import render
from ds4_backend.errors import RequestError
from ds4_backend.measure.frontiers import prefill
from ds4_backend.model import Model
from ds4_backend.tokenizer import Tokenizer

SCHEMA = "ds4-official-logprobs-v1"
TOP = 20
"""Alternatives kept with each token, as the official service gives them."""
TOLERANCE = 4.0
"""How far a log-probability may be off by default, in nats: what ds4 allows a 2-bit build."""
OWN_TOLERANCE = 0.05
"""The same for vectors made here: of the same weights, so only sums in another order differ."""
LIKELY = -3.0
"""Log-probability from which an official alternative must be among this build's own."""
PROMPTS = {
    "sum": "What is 12 plus 30? Answer with the number only.",
    "city": "¿Cuál es la capital de Portugal? Responde con una palabra.",
    "code": "Write a Python function that adds two numbers. Only code.",
    "list": "Name three colours, one on each line.",
}
"""What vectors are made of where nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class Step:
    """One token of an answer: its bytes, its log-probability, and the alternatives', itself among them."""

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True, slots=True)
class Vector:
    """One conversation in OpenAI's form, and the answer's first tokens. `ended` says that the answer ends there."""

    name: str
    messages: Sequence[Mapping[str, Any]]
    steps: tuple[Step, ...]
    thinking: bool = False
    ended: bool = False
    tolerance: float = TOLERANCE


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one vector went: tokens that were equal, of how many; the largest difference of a log-probability; and in
    words what was wrong, nothing where it passed."""

    name: str
    equal: int
    tokens: int
    difference: float
    wrong: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.wrong


def read_vectors(path: Path) -> list[Vector]:
    """The vectors in a JSON file (one, or a list of them), or in all .json files of a folder that hold such.

    Raises RequestError naming the file and what it lacks.
    """
    if path.is_dir():
        files = [one for one in sorted(path.rglob("*.json")) if f'"{SCHEMA}"' in one.read_text(encoding="utf-8")]
        if not files:
            raise RequestError(f"{path} holds no vectors: no .json file of the form {SCHEMA}.")
        return [vector for file in files for vector in read_vectors(file)]
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return [_vector(one, path) for one in (found if isinstance(found, list) else [found])]
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} holds no vectors of the form {SCHEMA}: {error!r}.") from error


def check(model: Model, tokenizer: Tokenizer, dialect: str, vector: Vector) -> Outcome:
    """Let the model answer, and compare. After a token that differs the official one is fed, while it can be."""
    wrong: list[str] = []
    equal, difference = 0, 0.0
    sequence = model.new_sequence()
    try:
        logits = prefill(model, sequence, prompt_ids(tokenizer, dialect, vector.messages, vector.thinking))
        for number, step in enumerate(vector.steps):
            own = top_of(logits, tokenizer)
            equal += own[0][1] == step.token
            found, largest = _differences(number, step, own, vector.tolerance)
            wrong += found
            difference = max(difference, largest)
            following = next((id for id, token, _ in own if token == step.token), None)
            if following is None:
                break
            logits = model.forward([(sequence, [following])])[0]
        else:
            if vector.ended and int(logits.argmax()) != tokenizer.eos:
                wrong.append(f"after {len(vector.steps)} tokens the answer should end, and goes on")
    finally:
        sequence.release()
    return Outcome(vector.name, equal, len(vector.steps), difference, tuple(wrong))


def make_vector(
    model: Model, tokenizer: Tokenizer, dialect: str, name: str, messages: Sequence[Mapping[str, Any]], tokens: int
) -> dict[str, Any]:
    """What the model itself answers, greedily and without thinking, as a vector's JSON."""
    sequence, steps, ended = model.new_sequence(), [], False
    try:
        logits = prefill(model, sequence, prompt_ids(tokenizer, dialect, messages, thinking=False))
        for number in range(tokens):
            own = top_of(logits, tokenizer)
            if own[0][0] == tokenizer.eos:
                ended = True
                break
            alternatives = [{"token": _spelt(token), "logprob": logprob} for _, token, logprob in own]
            steps.append({"step": number, **alternatives[0], "top_logprobs": alternatives})
            logits = model.forward([(sequence, [own[0][0]])])[0]
    finally:
        sequence.release()
    request = {"temperature": 0, "thinking": {"type": "disabled"}, "messages": list(messages)}
    reason = "stop" if ended else "length"
    about = {"schema": SCHEMA, "source": "ds4-backend", "id": name, "tolerance": OWN_TOLERANCE}
    return {**about, "request": request, "finish_reason": reason, "steps": steps}


def prompt_ids(tokenizer: Tokenizer, dialect: str, messages: Sequence[Mapping[str, Any]], thinking: bool) -> list[int]:
    """The token ids of a conversation's prompt."""
    prompt = render(request_from_openai(messages, thinking=thinking), dialect)
    return tokenizer.encode_segments(prompt.segments)


def top_of(logits: NDArray[np.float32], tokenizer: Tokenizer, count: int = TOP) -> list[tuple[int, bytes, float]]:
    """The likeliest tokens as (id, bytes, log-probability), the likeliest first; ties go to the lower id."""
    logprobs = log_softmax(logits)
    best = np.argsort(-logprobs, kind="stable")[:count]
    return [(int(id), tokenizer.token_bytes(int(id)), float(logprobs[id])) for id in best]


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-probabilities along the last axis."""
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))


def _differences(
    number: int, step: Step, own: Sequence[tuple[int, bytes, float]], tolerance: float
) -> tuple[list[str], float]:
    """What is wrong at one token, and its largest difference of a log-probability."""
    mine = {token: logprob for _, token, logprob in reversed(own)}
    wrong = []
    if own[0][1] != step.token:
        wrong.append(f"token {number} is {own[0][1]!r}, it should be {step.token!r}")
    largest = 0.0
    for token, logprob in _likely(step):
        if token not in mine:
            wrong.append(f"token {number}: {token!r} is not among the {len(own)} likeliest")
            continue
        off = abs(mine[token] - logprob)
        largest = max(largest, off)
        if off > tolerance:
            wrong.append(f"token {number}: the log-probability of {token!r} is {mine[token]:.2f}, not {logprob:.2f}")
    return wrong, largest


def _likely(step: Step) -> Iterator[tuple[bytes, float]]:
    return ((token, logprob) for token, logprob in step.top if logprob >= LIKELY)


def _vector(one: Mapping[str, Any], path: Path) -> Vector:
    request = one["request"]
    steps = tuple(
        Step(
            bytes(step["token"]["bytes"]),
            float(step["logprob"]),
            tuple((bytes(t["token"]["bytes"]), float(t["logprob"])) for t in step["top_logprobs"]),
        )
        for step in one["steps"]
    )
    return Vector(
        name=str(one.get("id", path.stem)),
        messages=request["messages"],
        steps=steps,
        thinking=request.get("thinking", {}).get("type") == "enabled",
        ended=one.get("finish_reason") == "stop",
        tolerance=float(one.get("tolerance", TOLERANCE)),
    )


def _spelt(token: bytes) -> dict[str, Any]:
    return {"text": token.decode("utf-8", "replace"), "bytes": list(token)}
