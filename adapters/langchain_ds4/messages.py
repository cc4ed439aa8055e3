"""From LangChain's messages to the core's, by way of the OpenAI form that both know. Text goes over unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage

from ds4_backend.chat.openai import messages_from_openai
from ds4_backend.types import Message

ROLES = {"human": "user", "system": "system", "tool": "tool", "function": "function"}
NOT_CONTENT = (
    "tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use", "input_json_delta", "function_call",
    "reasoning", "thinking", "redacted_thinking",
)  # fmt: skip
"""Content blocks that say again what stands in `tool_calls`, or that are reasoning."""


def to_messages(messages: Iterable[BaseMessage]) -> tuple[Message, ...]:
    """The whole conversation. Raises RequestError for an unknown role, UnsupportedContent for what is not text."""
    return messages_from_openai(_assistant(m) if isinstance(m, AIMessage) else _other(m) for m in messages)


def _other(message: BaseMessage) -> dict[str, Any]:
    """A message that is not the model's. Its `name` has no place in the prompt, but for a function's result."""
    role = message.role if isinstance(message, ChatMessage) else ROLES.get(message.type, message.type)
    result_of = message.name if message.type == "function" else getattr(message, "tool_call_id", None)
    return {"role": role, "content": message.content, "tool_call_id": result_of}


def _assistant(message: AIMessage) -> dict[str, Any]:
    calls = [{"id": c["id"], "function": {"name": c["name"], "arguments": c["args"]}} for c in message.tool_calls]
    return {
        "role": "assistant",
        "content": message.content if isinstance(message.content, str) else _visible(message.content),
        "reasoning_content": message.additional_kwargs.get("reasoning_content") or "".join(_reasoning(message)) or None,
        "tool_calls": calls,
        "prefix": message.additional_kwargs.get("prefix", False),
    }


def _visible(content: list[Any]) -> str | list[Any]:
    """The text of a turn in blocks, in one piece as the model wrote it; the blocks where one is not text."""
    blocks = [{"type": "text", "text": block} if isinstance(block, str) else _standard(block) for block in content]
    blocks = [block for block in blocks if block.get("type") not in NOT_CONTENT]
    return "".join(b["text"] for b in blocks) if all(b.get("type") == "text" for b in blocks) else blocks


def _reasoning(message: AIMessage) -> Iterator[str]:
    """Reasoning in content blocks: LangChain's own, or Anthropic's."""
    for block in message.content if isinstance(message.content, list) else ():
        if isinstance(block, dict):
            block = _standard(block)
            yield block.get({"reasoning": "reasoning", "thinking": "thinking"}.get(block.get("type", ""), ""), "")


def _standard(block: dict[str, Any]) -> dict[str, Any]:
    """What LangChain has wrapped because it did not know it, unwrapped."""
    return block["value"] if block.get("type") == "non_standard" else block
