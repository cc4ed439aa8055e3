"""From LangChain's messages to the core's, by way of the OpenAI form that both know. Text goes over unchanged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage

from ds4_backend.chat.openai import messages_from_openai
from ds4_backend.types import Message

ROLES = {"human": "user", "system": "system", "tool": "tool", "function": "function"}


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
        "content": message.content if isinstance(message.content, str) else list(map(_standard, message.content)),
        "reasoning_content": message.additional_kwargs.get("reasoning_content"),
        "tool_calls": calls,
        "prefix": message.additional_kwargs.get("prefix", False),
    }


def _standard(block: Any) -> Any:
    """What LangChain has wrapped because it did not know it, unwrapped."""
    return block["value"] if isinstance(block, dict) and block.get("type") == "non_standard" else block
