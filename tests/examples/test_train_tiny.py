"""The training example: its network is the engine's, its prompts are the engine's, and its pipeline runs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the training example needs PyTorch")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "train-tiny"
sys.path.insert(0, str(EXAMPLE))

from ds4_tiny import checkpoint, corpus, folder, vocabulary  # noqa: E402
from ds4_tiny.batches import pack  # noqa: E402
from ds4_tiny.chat import segments  # noqa: E402
from ds4_tiny.crew import Crew  # noqa: E402
from ds4_tiny.draw import Draw, held_out  # noqa: E402
from ds4_tiny.network import Network  # noqa: E402
from ds4_tiny.rounding import hadamard, round_index, round_rows  # noqa: E402
from ds4_tiny.shape import Shape  # noqa: E402
from ds4_tiny.step import Trainer  # noqa: E402
from ds4_tiny.tasks.kits import written  # noqa: E402
from ds4_tiny.weights import new_weights  # noqa: E402
from exam import free  # noqa: E402
from tiny_shape import tiny  # noqa: E402

from ds4_backend.chat import render  # noqa: E402
from ds4_backend.convert.converter import convert  # noqa: E402
from ds4_backend.gguf.reader import open_gguf  # noqa: E402
from ds4_backend.model import load_model  # noqa: E402
from ds4_backend.ops import simulate  # noqa: E402
from ds4_backend.tokenizer import Tokenizer  # noqa: E402
from ds4_backend.types import JsonObject, JsonSchema, Message, Request, Tool, ToolCall  # noqa: E402

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
    ours, theirs = round_rows(rows, 16).numpy(), simulate.round_rows(rows.numpy(), 16)
    held = np.abs(theirs) >= 2.0**-14  # the engine's rows are float16, which has fewer digits below this
    assert np.array_equal(ours[held], theirs[held]) and np.abs(ours - theirs).max() <= 2.0**-24
    index = torch.randn(400, 32)
    ours, theirs = round_index(index, hadamard(32)).numpy(), simulate.round_indexer(index.numpy())
    assert (np.abs(ours - theirs) > 1e-6).mean() < 0.01  # the engine mixes in float64: rare ties fall otherwise


def test_a_gradient_passes_through_rounding_unchanged():
    rows = torch.randn(3, 80, requires_grad=True)
    round_rows(rows, 16).sum().backward()
    assert torch.equal(rows.grad, torch.ones_like(rows))


# Prompts


def as_request(talk: Any) -> Any:
    """A conversation up to its last answer, as the engine gets it."""
    messages = [Message("system", talk.system)] if talk.system else []
    count, waiting = 0, []
    for turn in talk.turns[:-1]:
        if turn.role == "assistant":
            calls = tuple(ToolCall(f"id{count + i}", n, json.dumps(a)) for i, (n, a) in enumerate(turn.calls))
            count += len(calls)
            waiting = [call.id for call in calls]
            messages.append(Message("assistant", turn.text, (talk.thinking and turn.thought) or None, calls))
        else:
            messages.append(Message(turn.role, turn.text, tool_call_id=waiting.pop(0) if turn.role == "tool" else None))
    tools = tuple(Tool(t["name"], t["description"], t["parameters"]) for t in talk.tools)
    form = JsonObject() if talk.json_mode else JsonSchema(talk.schema) if talk.schema else None
    effort = talk.effort if talk.thinking else None
    return Request(tuple(messages), tools, response_format=form, thinking=talk.thinking, effort=effort)


def test_prompts_are_the_engines_to_the_byte():
    d = Draw("rendering")
    checked = 0
    while checked < 150:
        made = corpus.talk(d)
        if made.turns[-1].role != "assistant":
            continue
        made = replace(made, tools=tuple(map(written, made.tools)))
        ours = "".join(text for text, own in segments(made))
        answer = [text for text, own in segments(made) if own][-1]
        assert render(as_request(made), "0731").text == ours[: -len(answer)]
        checked += 1


def test_a_held_out_word_is_never_drawn_in_training():
    train, exam = Draw(1), Draw(1, "eval")
    assert not any(held_out(train.strange()) for _ in range(300))
    assert all(held_out(exam.strange()) for _ in range(50))


def test_a_word_reads_the_same_wherever_it_stands():
    tokenizer = vocabulary.load()
    for text in ("zorbin", "Quixfnap", "hqwzt"):
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        for frame in ("in {}?", 'string="true">{}<', '"{}"', "get_{}", "/etc/{}.txt", "({})"):
            inside = tokenizer.encode(frame.format(text), add_special_tokens=False).ids
            assert any(inside[i : i + len(plain)] == plain for i in range(len(inside))), (text, frame)


def test_every_token_survives_a_round_trip_through_the_file(tmp_path):
    tokenizer = vocabulary.load()
    checkpoint.save(tmp_path / "parts", tiny(), new_weights(tiny()))
    folder.complete(tmp_path / "parts", tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "tiny.gguf", "f16", dialect="0731", cache_simulation=True)
    theirs = Tokenizer.from_gguf(open_gguf(tmp_path / "tiny.gguf").metadata)
    text = "Hello! 毕老师 1 + 1 = 2, get_weather('Łódź') 🦊\n\n<x>"
    assert theirs.encode(text) == tokenizer.encode(text, add_special_tokens=False).ids
    assert theirs.decode(theirs.encode(text)) == text


# Training


def test_a_few_steps_lower_the_loss_and_leave_nothing_unmoved():
    tokenizer, shape = vocabulary.load(), tiny()
    ids, kinds = pack(tokenizer, Draw(4), 256, 1)
    weights = new_weights(shape)
    before = {name: value.clone() for name, value in weights.items()}
    trainer = Trainer(shape, weights, Crew(), compiled=False, graphs=False)
    losses = []
    for step in range(8):
        trainer.train(
            ids,
            kinds,
            sight="all" if step < 2 else "chosen",
            rate=0.01 if step else 0,
            matrix_rate=0.02 if step else 0,
            prompt_weight=0.5,
        )
        losses.append(float(trainer.report().split()[1]))
    assert losses[-1] < losses[0] - 0.2
    still = [n for n, w in trainer.network.weights.items() if torch.equal(w, before[n]) and not n.endswith("tid2eid")]
    assert still == []


def test_rows_are_packed_full_and_say_who_wrote_what():
    ids, kinds = pack(vocabulary.load(), Draw(9), 512, 2)
    assert ids.shape == kinds.shape == (2, 513)
    assert (ids[:, 0] == 0).all()
    assert (kinds > 0).mean() > 0.9
    assert 0.02 < (kinds == 2).mean() < 0.8


def test_grading_accepts_what_is_right_and_nothing_else():
    right = [("get_weather", '{"city": "sf"}')]
    assert free.is_right({"calls": [["get_weather", {"city": "sf"}]]}, ("", right))
    assert not free.is_right({"calls": [["get_weather", {"city": "la"}]]}, ("", right))
    assert not free.is_right({"calls": [["get_weather", {"city": "sf"}]]}, ("", right * 2))
    assert not free.is_right({"equals": "x"}, ("x", right))
    assert free.is_right({"json": {"a": 1}}, ('{"a": 1}', []))
    assert not free.is_right({"keys": ["a"]}, ("[1]", []))


def test_every_free_prompt_can_be_asked_and_its_rule_read():
    found = free.cases()
    assert len(found) == 200
    for case in found:
        render(free.request_of(case), "0731")
        assert isinstance(free.is_right(case["want"], ("", [])), bool)
