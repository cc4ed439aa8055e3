"""DeepSeek V4 as a LangChain chat model: `from langchain_ds4 import ChatDS4`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_ds4.chat_models import ChatDS4

__all__ = ["ChatDS4"]


def __getattr__(name: str) -> Any:
    """`ChatDS4`, imported when it is first asked for: LangChain takes a second to load."""
    if name != "ChatDS4":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from langchain_ds4.chat_models import ChatDS4

    return ChatDS4
