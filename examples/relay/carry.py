"""Carries a conversation from one front end to another.

    llm logs -c --json -n 0 | python examples/relay/carry.py > messages.json       # llm's last conversation
    llm logs -c --json -n 0 | python examples/relay/carry.py --anthropic

The first prints OpenAI's form, which LangChain and the OpenAI SDK take as it is: `agent.invoke({"messages": ...})`,
`client.chat.completions.create(messages=messages, ...)`. From LangChain back to that form leads LangChain's own
`convert_to_openai_messages`. The thinking is left behind on the way, as most tools do; the engine has it.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

Messages = list[dict[str, Any]]


def from_llm(logs: list[dict[str, Any]]) -> Messages:
    """What `llm logs -c --json -n 0` prints, as messages in OpenAI's form."""
    messages: Messages = []
    for entry in logs:
        if entry["system"] and not messages:  # llm logs it with each of them
            messages.append({"role": "system", "content": entry["system"]})
        for result in entry["tool_results"]:
            messages.append({"role": "tool", "tool_call_id": result["tool_call_id"], "content": result["output"]})
        if entry["prompt"]:
            messages.append({"role": "user", "content": entry["prompt"]})
        calls = [_call(call) for call in entry["tool_calls"]]
        messages.append({"role": "assistant", "content": entry["response"]} | ({"tool_calls": calls} if calls else {}))
    return messages


def to_anthropic(messages: Messages) -> dict[str, Any]:
    """`system` and `messages` for the Anthropic SDK, from OpenAI's form."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    turns: Messages = []
    for message in messages:
        if message["role"] == "system":
            continue
        role = "assistant" if message["role"] == "assistant" else "user"
        if not turns or turns[-1]["role"] != role:
            turns.append({"role": role, "content": []})
        turns[-1]["content"] += _blocks(message)
    return {"system": "\n\n".join(system), "messages": turns}


def _call(call: dict[str, Any]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
    return {"id": call["tool_call_id"], "type": "function", "function": function}


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if message["role"] == "tool":
        return [{"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": content}]
    text = [{"type": "text", "text": content}] if content else []
    return text + [_use(call) for call in message.get("tool_calls") or ()]


def _use(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = json.loads(function["arguments"])
    return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments}


def main() -> None:
    parser = argparse.ArgumentParser(description="llm's logs, on standard input, as messages for other front ends.")
    parser.add_argument("--anthropic", action="store_true", help="in Anthropic's form; OpenAI's otherwise")
    given = parser.parse_args()
    messages = from_llm(json.load(sys.stdin))
    print(json.dumps(to_anthropic(messages) if given.anthropic else messages, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
