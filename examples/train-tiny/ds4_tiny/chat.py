# ruff: noqa: E501  (tables and prompt text)
"""Conversations as prompts, byte for byte what ds4_backend renders (dialect 0731); a test compares them.

Written out here because a training machine may lack the encoder's package, and because each stretch of text must say
whether the assistant wrote it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT, THINK, THINK_END, DSML = "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜"
SPECIALS = [BOS, EOS, PAD, USER, ASSISTANT, THINK, THINK_END, DSML, "<｜latest_reminder｜>", "<｜action｜>", "<｜query｜>",
            "<｜authority｜>", "<｜domain｜>", "<｜title｜>", "<｜read_url｜>", "<｜System｜>", "<｜fim▁hole｜>", "<｜fim▁begin｜>",
            "<｜fim▁end｜>", "<｜place▁holder▁no▁0｜>"]  # fmt: skip
EFFORTS = {
    "high": """Reasoning Effort: Absolute maximum with no shortcuts permitted.
You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the root cause, rigorously stress-testing your logic against all potential paths, edge cases, and adversarial scenarios.
Explicitly write out your entire deliberation process, documenting every intermediate step, considered alternative, and rejected hypothesis to ensure absolutely no assumption is left unchecked.

""",
    "max": """Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.
You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively decompose the problem into its most fundamental components, trace every causal chain to its root, and resolve the underlying cause rather than any surface symptom.
Do not stop reasoning until you have independently verified the solution from multiple angles and are certain that no assumption remains unchecked and no error remains undiscovered.

""",
}
TOOL_BLOCK = """## Tools

You have access to a set of tools to help answer the user's question. You can invoke tools by writing a "<｜DSML｜tool_calls>" block like the following:

<｜DSML｜tool_calls>
<｜DSML｜invoke name="$TOOL_NAME">
<｜DSML｜parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</｜DSML｜parameter>
...
</｜DSML｜invoke>
<｜DSML｜invoke name="$TOOL_NAME2">
...
</｜DSML｜invoke>
</｜DSML｜tool_calls>

String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, objects), pass the value in JSON format and set `string="false"`.

If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> BEFORE any tool calls or final response.

Otherwise, output directly after </think> with tool calls or final response.

### Available Tool Schemas

%s

You MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.
"""
JSON_BLOCK = "\n\nYou are a helpful assistant designed to output JSON.\n## Response Format:\n\nReply with JSON object ONLY."
FORMAT_BLOCK = "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n"

Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Turn:
    """One message. `thought` and `calls` are an assistant's."""

    role: str
    text: str
    thought: str = ""
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Talk:
    """A conversation. Tools are the inner function objects: name, description, parameters. `json_mode` asks for any
    JSON object, `schema` for one that it allows."""

    turns: tuple[Turn, ...]
    tools: tuple[dict[str, Any], ...] = ()
    schema: dict[str, Any] | None = None
    thinking: bool = False
    effort: str | None = None
    system: str = ""
    json_mode: bool = False


def user(text: str) -> Turn:
    """What the user says."""
    return Turn("user", text)


def result(text: str) -> Turn:
    """What a tool returns."""
    return Turn("tool", text)


def says(text: str, thought: str = "", *calls: Call) -> Turn:
    """What the assistant says, thinks and calls."""
    return Turn("assistant", text, thought, calls)


def segments(talk: Talk) -> list[tuple[str, bool]]:
    """The prompt and answers in order, and whether the assistant wrote each stretch."""
    out: list[tuple[str, bool]] = []
    text = BOS + (EFFORTS.get(talk.effort or "", "") if talk.thinking else "") + talk.system
    if talk.tools:
        text += "\n\n" + TOOL_BLOCK % "\n".join(dumps(tool) for tool in talk.tools)
    if talk.json_mode:
        text += JSON_BLOCK
    if talk.schema:
        text += FORMAT_BLOCK + dumps(talk.schema)
    turns = talk.turns
    last = max((i for i, turn in enumerate(turns) if turn.role == "user"), default=-1)
    i = 0
    while i < len(turns):
        if turns[i].role == "assistant":
            out += [(text, False), (_assistant(turns[i], _thinks(talk, i, last)) + EOS, True)]
            text = ""
            i += 1
            continue
        end = next((j for j in range(i, len(turns)) if turns[j].role == "assistant"), len(turns))
        blocks = [t.text if t.role == "user" else f"<tool_result>{t.text}</tool_result>" for t in turns[i:end]]
        dropped = end < len(turns) and not turns[end].thought  # a past turn whose thoughts were not kept
        opened = talk.thinking and not dropped and (bool(talk.tools) or end > last)
        text += USER + "\n\n".join(blocks) + ASSISTANT + (THINK if opened else THINK_END)
        i = end
    return [*out, (text, False)] if text else out


def _thinks(talk: Talk, i: int, last: int) -> bool:
    return talk.thinking and bool(talk.turns[i].thought) and (bool(talk.tools) or i > last)


def _assistant(turn: Turn, thinks: bool) -> str:
    text = (turn.thought + THINK_END if thinks else "") + turn.text
    return text + call_block(turn.calls) if turn.calls else text


def call_block(calls: tuple[Call, ...]) -> str:
    """Calls as the model writes them."""
    invokes = []
    for name, arguments in calls:
        lines = [
            f'<{DSML}parameter name="{key}" string="{"true" if isinstance(value, str) else "false"}">'
            f"{value if isinstance(value, str) else dumps(value)}</{DSML}parameter>\n"
            for key, value in arguments.items()
        ]
        invokes.append(f'<{DSML}invoke name="{name}">\n' + "".join(lines) + f"</{DSML}invoke>")
    return f"\n\n<{DSML}tool_calls>\n" + "\n".join(invokes) + f"\n</{DSML}tool_calls>"


def dumps(value: Any) -> str:
    """JSON with the prompt's separators, Unicode as it is."""
    return json.dumps(value, ensure_ascii=False)
