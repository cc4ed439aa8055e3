"""A LangGraph agent with two tools and a memory, on this machine.

    python examples/langchain/agent.py                                       # four questions, one conversation
    python examples/langchain/agent.py --model ds4-flash "Is it warmer in Oslo or in Rome?"

Behind each answer stands how much of its prompt was not computed again: the agent sends the whole conversation each
time, and the engine goes on from where it was.
"""

from __future__ import annotations

import argparse
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ds4 import ChatDS4
from langgraph.checkpoint.memory import InMemorySaver

QUESTIONS = ("My name is Anna", "what is the weather in sf", "Add 12 and 30", "What is my name?")
WEATHER = {"sf": "sunny and 18 degrees", "oslo": "rainy and 9 degrees", "rome": "sunny and 24 degrees"}


@tool
def get_weather(city: str) -> str:
    "Get the current weather"
    return WEATHER.get(city.lower(), "cloudy and 12 degrees")


@tool
def add(a: int, b: int) -> int:
    "Add two numbers"
    return a + b


def told(message: BaseMessage) -> str:
    """One message as a line of the terminal."""
    if isinstance(message, ToolMessage):
        return f"   {message.name} says: {message.text}"
    if not isinstance(message, AIMessage):
        return f"> {message.text}"
    usage: Any = message.usage_metadata
    cached = f"[{usage['input_token_details']['cache_read']} of {usage['input_tokens']} prompt tokens cached]"
    calls = ", ".join(f"{call['name']}({call['args']})" for call in message.tool_calls)
    return f"   {calls or message.text}   {cached}"


def main() -> None:
    parser = argparse.ArgumentParser(description="An agent with two tools and a memory.")
    parser.add_argument("--model", default="ds4-tiny")
    parser.add_argument("question", nargs="*", default=QUESTIONS)
    given = parser.parse_args()

    model = ChatDS4(model=given.model, temperature=0, thinking=False)
    agent = create_agent(model, [get_weather, add], checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "one"}}
    shown = 0
    for question in given.question:
        messages = agent.invoke({"messages": [("user", question)]}, thread)["messages"]
        print("\n".join(map(told, messages[shown:])))
        shown = len(messages)


if __name__ == "__main__":
    main()
