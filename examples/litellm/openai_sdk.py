"""A conversation with a tool through LiteLLM's proxy, by the OpenAI SDK. First: `ds4-backend proxy`.

`python openai_sdk.py [MODEL]`; the proxy's address and key are OPENAI_BASE_URL and OPENAI_API_KEY.
"""

from __future__ import annotations

import json
import os
import sys

import openai

MODEL = sys.argv[1] if len(sys.argv) > 1 else "ds4-flash"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather for a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def get_weather(city: str) -> str:
    """What a real tool would look up."""
    return "sunny, 18 C"


def main() -> None:
    client = openai.OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:4000/v1"),
        api_key=os.environ.get("OPENAI_API_KEY", "none"),  # any key will do while LITELLM_MASTER_KEY is not set
    )
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    while True:
        answer = client.chat.completions.create(
            model=MODEL, messages=messages, tools=TOOLS, temperature=0, reasoning_effort="none"
        )
        message = answer.choices[0].message
        cached = answer.usage.prompt_tokens_details.cached_tokens
        print(f"[{cached} of {answer.usage.prompt_tokens} prompt tokens were not read again]")
        if not message.tool_calls:
            break
        messages.append(message.model_dump(exclude_none=True))  # as it came: the cache goes on from it
        for call in message.tool_calls:
            result = get_weather(**json.loads(call.function.arguments))
            print(f"{call.function.name}({call.function.arguments}) -> {result}")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    print(message.content)

    stream = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "What is 3 times 12?"}], temperature=0, stream=True
    )
    for chunk in stream:
        delta = chunk.choices[0].delta
        print(getattr(delta, "reasoning_content", None) or delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
