"""Writes the golden prompts beside it (golden/*.json), straight from the vendor's encoder.

    python tests/chat/make_golden.py          write the files
    python tests/chat/make_golden.py --check  compare them with what the installed encoder gives, exit 1 on a difference

Nothing of ds4_backend.chat is used here. `vendor` in a file is the encoder's output for the messages as they are.
`expected` is the same where no exception applies; otherwise it is made from the encoder by the stated means: the
effort passed, ids that sort in call order, and, for what the encoder cannot be asked for, an edit written out below.

The cases follow the worked examples of the format's description. One of those has no file: the one that forces
thinking to be kept without tools, which a request cannot ask for.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepseek_recipe as recipe

GOLDEN = Path(__file__).parent / "golden"
EFFORT, IDS, SYSTEM, KEEP = "effort is passed", "ids in call order", "later system in place", "thinking kept"
EOS, ASSISTANT, BOS = "<｜end▁of▁sentence｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>"

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather for a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}


@dataclass(frozen=True)
class Case:
    name: str
    messages: list[dict[str, Any]]
    thinking: bool = True
    dialect: str = "0731"
    effort: str | None = None
    exceptions: tuple[str, ...] = ()
    recipe_effort: str = "low"
    edits: tuple[tuple[str, str], ...] = ()
    response_format: dict[str, Any] | None = None

    def record(self) -> dict[str, Any]:
        options = {"dialect": self.dialect, "thinking": self.thinking, "effort": self.effort}
        if self.response_format:
            options["response_format"] = self.response_format
        vendor = encode(self.messages, self.thinking, self.effort, self.response_format)
        expected = encode(with_sorting_ids(self.messages), self.thinking, self.recipe_effort, self.response_format)
        for old, new in self.edits:
            assert expected.count(old) == 1, (self.name, old, expected)
            expected = expected.replace(old, new)
        assert (vendor != expected) == bool(self.exceptions), self.name
        record = {"messages": self.messages, "options": options, "exceptions": list(self.exceptions)}
        return record | ({"vendor": vendor} if self.exceptions else {}) | {"expected": expected}


def encode(
    messages: list[dict[str, Any]], thinking: bool, effort: str | None, format: dict[str, Any] | None = None
) -> str:
    """The vendor encoder's prompt."""
    tools = [tool["function"] for message in messages for tool in message.get("tools", [])]
    definitions = [recipe.ToolDefinition(tool["name"], tool["description"], tool["parameters"]) for tool in tools]
    conversation = recipe.Conversation(
        [as_recipe(message) for message in messages],
        tools=definitions or None,
        thinking_mode=thinking,
        reasoning_effort=effort,
        **as_keywords(format),
    )
    return recipe.DeepseekV4Encoding().render_conversation(conversation).prompt


def as_keywords(format: dict[str, Any] | None) -> dict[str, Any]:
    if format is None:
        return {}
    kind = format["type"]
    return {"response_schema": format["json_schema"]["schema"]} if kind == "json_schema" else {"response_format": kind}


def as_recipe(message: dict[str, Any]) -> recipe.Message:
    match message["role"]:
        case "system":
            return recipe.SystemMessage(message["content"])
        case "user":
            return recipe.UserMessage(message["content"])
        case "tool":
            return recipe.ToolMessage(message["content"], message["tool_call_id"])
    calls = [
        recipe.ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls", [])
    ]
    reasoning = message.get("reasoning_content")
    return recipe.AssistantMessage(message["content"], reasoning, calls or None, message.get("wo_eos", False))


def with_sorting_ids(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    calls = [call["id"] for message in messages for call in message.get("tool_calls", [])]
    text = json.dumps(messages, ensure_ascii=False)
    for index, id in enumerate(calls):
        text = text.replace(json.dumps(id), json.dumps(f"c{index:04d}"))
    return json.loads(text)


def system(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "system", "content": text, **more}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, reasoning: str | None = None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", **({"reasoning_content": reasoning} if reasoning else {}), "content": text, **more}


def call(id: str, name: str, **arguments: Any) -> dict[str, Any]:
    text = json.dumps(arguments, ensure_ascii=False)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": text}}


def result(id: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id, "content": text}


BRIEF, TOOLS = system("Be brief."), system("Be brief.", tools=[WEATHER])
ROME = call("call_a", "get_weather", city="Rome", days=3)
PISA = call("call_b", "get_weather", city="Pisa", opts={"units": "C"})
ASKED = [user("Q"), assistant("", "need tool", tool_calls=[ROME, PISA])]
GREETED = [user("Hi"), assistant("Hello!", "greet"), user("2+2?")]
ANSWER = {"type": "object", "properties": {"a": {"type": "integer"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": ANSWER}}
TEN_CALLS = [user("Q"), assistant("", tool_calls=[call("c9", "f", n=9), call("c10", "f", n=10)])]

CASES = [
    Case("01-system-and-user", [BRIEF, user("Hi")], thinking=False),
    Case("02-thinking", [BRIEF, user("Hi")], exceptions=(EFFORT,)),
    Case("02-thinking-low", [BRIEF, user("Hi")], effort="low"),
    Case("03-old-reasoning-dropped", [BRIEF, *GREETED], effort="low"),
    Case("05-preview-max", [user("Hi")], True, "preview", "max", (EFFORT,), "high"),
    Case("05-preview-high", [user("Hi")], True, "preview", "high", (EFFORT,), "low"),
    Case("05-preview-none", [user("Hi")], True, "preview", None, (EFFORT,), "low"),
    Case("06-0731-high", [user("Hi")], effort="high", recipe_effort="high"),
    Case("06-0731-max", [user("Hi")], effort="max", recipe_effort="max"),
    Case("07-tools", [TOOLS, user("Weather in Rome?")], effort="low"),
    Case(
        "08-results-out-of-order",
        [TOOLS, *ASKED, result("call_b", "rain"), result("call_a", "sun"), assistant("Sunny.", "done"), user("Thanks")],
        effort="low",
    ),
    Case("09-result-then-text", [TOOLS, *ASKED, result("call_a", "sun"), user("be quick")], effort="low"),
    Case(
        "10-tool-traffic-without-tools",
        [BRIEF, *ASKED, result("call_a", "sun")],
        effort="low",
        exceptions=(KEEP,),
        edits=((f"{ASSISTANT}</think>\n\n<｜DSML", f"{ASSISTANT}<think>need tool</think>\n\n<｜DSML"),),
    ),
    Case(
        "10-tool-traffic-max",
        [BRIEF, *ASKED, result("call_a", "sun"), result("call_b", "rain"), assistant("Mixed.", "done"), user("Thanks")],
        effort="max",
        recipe_effort="max",
        exceptions=(KEEP,),
        edits=(
            (f"{ASSISTANT}</think>\n\n<｜DSML", f"{ASSISTANT}<think>need tool</think>\n\n<｜DSML"),
            (f"{ASSISTANT}</think>Mixed.", f"{ASSISTANT}<think>done</think>Mixed."),
        ),
    ),
    Case("10-tool-traffic-not-thinking", [BRIEF, *ASKED, result("call_a", "sun")], thinking=False),
    Case(
        "11-call-without-arguments",
        [user("A"), assistant("", tool_calls=[call("x", "now")]), result("x", "t")],
        thinking=False,
    ),
    Case("12-response-format", [BRIEF, user("Q")], thinking=False, response_format=SCHEMA),
    Case("12-response-format-and-tools", [TOOLS, user("Q")], effort="low", response_format=SCHEMA),
    Case("12-json-object", [user("Q")], effort="low", response_format={"type": "json_object"}),
    Case("13-two-user-messages", [user("A"), user("B")], thinking=False),
    Case("14-prefix", [user("A"), assistant("The answer", wo_eos=True)], thinking=False),
    Case("14-prefix-in-thinking", [user("A"), assistant("", "Let me", wo_eos=True)], effort="low"),
    Case(
        "15-system-in-the-middle",
        [user("A"), assistant("ok"), system("MID"), user("B")],
        thinking=False,
        exceptions=(SYSTEM,),
        edits=((f"{BOS}MID", BOS), (EOS, f"{EOS}MID")),
    ),
    Case(
        "15-system-after-a-result",
        [BRIEF, *TEN_CALLS[:1], assistant("", tool_calls=[call("x", "now")]), result("x", "t"), system("MID")],
        thinking=False,
        exceptions=(SYSTEM,),
        edits=((f"{BOS}Be brief.\n\nMID", f"{BOS}Be brief."), ("t</tool_result>", "t</tool_result>MID")),
    ),
    Case(
        "16-ids-that-sort-otherwise",
        [*TEN_CALLS, result("c10", "ten"), result("c9", "nine")],
        thinking=False,
        exceptions=(IDS,),
    ),
]


def main(check: bool) -> int:
    wrong = []
    for case in CASES:
        text = json.dumps(case.record(), ensure_ascii=False, indent=1) + "\n"
        path = GOLDEN / f"{case.name}.json"
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            wrong.append(path.name)
    if wrong:
        print("differ from the installed encoder:", *wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
