"""A conversation with a tool through LiteLLM's proxy, by the Anthropic SDK. First: `ds4-backend proxy`.

`python anthropic_sdk.py [MODEL]`; the proxy's address and key are ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY.
"""

from __future__ import annotations

import os
import sys

import anthropic

MODEL = sys.argv[1] if len(sys.argv) > 1 else "ds4-flash"
TOOLS = [
    {
        "name": "get_weather",
        "description": "Get the weather for a city.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]
GREEDY = {"temperature": 0}


def get_weather(city: str) -> str:
    """What a real tool would look up."""
    return "sunny, 18 C"


def main() -> None:
    client = anthropic.Anthropic(
        base_url=os.environ.get("ANTHROPIC_BASE_URL", "http://127.0.0.1:4000"),
        api_key=os.environ.get("ANTHROPIC_API_KEY", "none"),  # any key will do while LITELLM_MASTER_KEY is not set
    )
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    while True:
        answer = client.messages.create(
            model=MODEL,
            max_tokens=1000,
            messages=messages,
            tools=TOOLS,
            thinking={"type": "disabled"},
            extra_body=GREEDY,
        )
        cached = answer.usage.cache_read_input_tokens or 0
        print(f"[{cached} of {cached + answer.usage.input_tokens} prompt tokens were not read again]")
        messages.append({"role": "assistant", "content": answer.content})  # as it came: the cache goes on from it
        calls = [block for block in answer.content if block.type == "tool_use"]
        if not calls:
            break
        results = [(call, get_weather(**call.input)) for call in calls]
        for call, result in results:
            print(f"{call.name}({call.input}) -> {result}")
        messages.append(
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": call.id, "content": said} for call, said in results],
            }
        )
    print("".join(block.text for block in answer.content if block.type == "text"))

    question = [{"role": "user", "content": "What is 3 times 12?"}]
    with client.messages.stream(model=MODEL, max_tokens=1000, messages=question, extra_body=GREEDY) as stream:
        for event in stream:
            if event.type in ("thinking", "text"):
                print(getattr(event, event.type), end="", flush=True)
    print()


if __name__ == "__main__":
    main()
