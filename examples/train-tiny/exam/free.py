"""200 prompts in nobody's template, written by hand before the training. A rule with each says what is right."""

from __future__ import annotations

import collections
import json
import re
from pathlib import Path
from typing import Any

from ds4_backend.types import Message, Request, Tool, ToolCall
from exam.pupil import Answer, Pupil

FOLDER = Path(__file__).resolve().parents[1]


def free_prompts(pupil: Pupil, show_wrong: bool = False) -> dict[str, float]:
    """Share of right answers by group, and of all."""
    rights: dict[str, list[bool]] = collections.defaultdict(list)
    for case in cases():
        answer = pupil.answer(request_of(case))
        right = is_right(case["want"], answer)
        rights[case["group"]].append(right)
        if show_wrong and not right:
            print(f"{case['id']} {case['turns'][-1]} -> {answer}", flush=True)
    scores = {f"{group} ({len(row)})": sum(row) / len(row) for group, row in rights.items()}
    every = [right for row in rights.values() for right in row]
    return scores | {f"all ({len(every)})": sum(every) / len(every)}


def cases() -> list[dict[str, Any]]:
    """The prompts as they are on disk."""
    lines = (FOLDER / "free_prompts.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def request_of(case: dict[str, Any]) -> Request:
    """A prompt as a request."""
    declared = json.loads((FOLDER / "free_tools.json").read_text("utf-8"))
    tools = tuple(
        Tool(t["name"], t["description"], t["parameters"]) for t in (declared[n] for n in case.get("tools", ()))
    )
    messages = [Message("system", case["system"])] if case.get("system") else []
    for role, said in case["turns"]:
        if role == "call":
            calls = tuple(
                ToolCall(f"call_{i}", name, json.dumps(arguments)) for i, (name, arguments) in enumerate(said)
            )
            messages.append(Message("assistant", "", tool_calls=calls))
        else:
            messages.append(Message(role, said, tool_call_id="call_0" if role == "tool" else None))
    return Request(tuple(messages), tools, thinking=bool(case.get("thinking")))


def is_right(want: dict[str, Any], answer: Answer) -> bool:
    """`equals` and `matches` look at the text, `json` and `keys` at it as an object, `calls` at names and arguments.

    Arguments that a rule does not name may be anything; a rule with none accepts any.
    """
    text, calls = answer
    if "calls" in want:
        made = [(name, _parsed(arguments)) for name, arguments in calls]
        return len(made) == len(want["calls"]) and all(any(_is_call(rule, m) for m in made) for rule in want["calls"])
    if calls:
        return False
    if "equals" in want:
        return text == want["equals"]
    if "matches" in want:
        return re.search(want["matches"], text) is not None
    parsed = _parsed(text)
    return (
        parsed == want["json"]
        if "json" in want
        else isinstance(parsed, dict) and sorted(parsed) == sorted(want["keys"])
    )


def _is_call(rule: list[Any], made: tuple[str, Any]) -> bool:
    name, arguments = rule
    if name != made[0] or not isinstance(made[1], dict):
        return False
    return arguments is None or (
        made[1] == arguments if not arguments else all(made[1].get(k) == v for k, v in arguments.items())
    )


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
