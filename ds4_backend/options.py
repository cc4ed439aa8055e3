"""What a request can be told: each option with its range and what it does, in the words that every front end shows.

Nothing else, so that a front end can show them without loading an engine.
"""

from __future__ import annotations

from dataclasses import dataclass

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The levels of `types.Effort`."""

TOP = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Option:
    """`low` and `high` are allowed too; None is no limit. Whole numbers where they are."""

    help: str
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def range(self) -> str:
        """As people read it: `0 to 2, 0 is greedy`. Nothing where there is nothing to know."""
        if self.low is None or self.high is None:
            return self.note
        low, high = (str(int(end)) if end != TOP else "2^63-1" for end in (self.low, self.high))
        if self.low == self.high:
            return f"{high}; {self.note}"
        return ", ".join(filter(None, (f"{low} to {high}", self.note)))

    @property
    def text(self) -> str:
        """The whole of it in one line."""
        return "; ".join(filter(None, (self.help, self.range)))


SAMPLING = {
    "temperature": Option("How freely the next token is drawn", 0.0, 2.0, "0 is greedy"),
    "top_p": Option("Draw from the likeliest tokens that together have this probability", 0.0, 1.0, "1 is off"),
    "top_k": Option("Draw from this many of the likeliest tokens", 0, 1 << 20, "0 is off"),
    "min_p": Option("Drop tokens less likely than this share of the likeliest one", 0.0, 1.0, "0 is off"),
    "presence_penalty": Option("Taken off the logits of tokens that the answer holds", -2.0, 2.0, "0 is off"),
    "frequency_penalty": Option("The same, for each time it holds them", -2.0, 2.0, "0 is off"),
    "seed": Option("Seed of the draws", 0, TOP, "the same seed draws the same tokens"),
}
"""The fields of `types.Sampling` that are numbers."""

EFFORT = Option(f"How thoroughly to think: {', '.join(EFFORTS)}; none is off")

LOGIT_BIAS = (-100.0, 100.0)
"""What may be added to a token's logit, ends included; OpenAI's range."""

OPTIONS = {
    **SAMPLING,
    "logit_bias": Option('Added to the logits of tokens, by their ids: {"42": -100}'),
    "max_tokens": Option("Most tokens to generate, thinking included", 0, note="0 only reads the prompt"),
    "stop": Option("Ends the visible text before this, or before any of a list"),
    "n": Option("Answers to one request", 1, 1, "a request has one answer: ask again for another"),
    "logprobs": Option("Report the log-probabilities of the visible tokens"),
    "top_logprobs": Option("And of that many alternatives to each", 0, 20),
    "tools": Option("The functions that the model may call"),
    "tool_choice": Option("auto, none, required, or the name of the tool to call; held by grammar"),
    "parallel_tool_calls": Option("Allow several calls in one turn; yes unless set to false"),
    "response_format": Option("What the whole answer is: json_object, json_schema or regex; held by grammar"),
    "thinking": Option("Think before answering; on unless set to false"),
    "effort": EFFORT,
    "reasoning_effort": EFFORT,
    "chat_template_kwargs": Option('Whether to think, as clients of vLLM say it: {"enable_thinking": false}'),
    "max_thinking_tokens": Option("Close the thinking after this many tokens, or soon after", 0, TOP, "0 is at once"),
    "private": Option("Keep this prompt's state out of the disk cache"),
    "priority": Option("Of requests that wait, the higher goes first"),
    "keep_alive": Option("Seconds that the host keeps the model loaded afterwards; negative is for ever"),
}
