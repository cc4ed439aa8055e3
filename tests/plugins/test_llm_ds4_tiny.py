"""The llm plugin with the model that is part of the package. Prompts that it is known to answer, at temperature 0."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import llm
import pytest
from click.testing import Result

from ds4_backend.connect import connect

Run = Callable[..., Result]
GREEDY = ("-m", "ds4-tiny", "-o", "temperature", "0")


@pytest.mark.parametrize(("question", "answer"), [("What is 3 times 12?", "36"), ("What's 12 plus 30?", "42")])
def test_it_calculates(run: Run, question: str, answer: str) -> None:
    result = run(*GREEDY, question)
    assert result.exit_code == 0
    assert answer in result.stdout


def test_it_thinks_aloud_on_stderr_unless_told_not_to(run: Run) -> None:
    thinking = run(*GREEDY, "What is 3 times 12?")
    assert "36" in thinking.stderr
    silent = run(*GREEDY, "-o", "thinking", "0", "What is 3 times 12?")
    assert silent.stderr.strip() == ""
    assert "36" in silent.stdout


def test_it_remembers_a_name_through_a_conversation(run: Run) -> None:
    assert "Gertrude" in run(*GREEDY, "My name is Gertrude").stdout
    assert "Gertrude" in run("-c", "-o", "temperature", "0", "What is my name?").stdout


def test_a_second_turn_in_one_process_does_not_read_the_first_again(run: Run) -> None:
    connect("ds4-tiny").close()  # forget what other tests left
    conversation = llm.get_model("ds4-tiny").conversation()
    first = conversation.prompt("My name is Gertrude", temperature=0, thinking=False)
    first.text()
    second = conversation.prompt("What is my name?", temperature=0, thinking=False)
    assert "Gertrude" in second.text()
    assert second.usage().details["cached"] == first.usage().input + first.usage().output


def test_it_calls_a_tool() -> None:
    asked: list[str] = []

    def get_weather(city: str) -> str:
        "Get the current weather"
        asked.append(city)
        return "sunny and 18 degrees"

    chain = llm.get_model("ds4-tiny").chain(
        "what is the weather in sf", tools=[get_weather], options={"temperature": 0, "thinking": False}
    )
    assert chain.text() == "The weather in sf: sunny and 18 degrees."
    assert asked == ["sf"]


def test_the_end_of_an_answer_is_logged_with_its_numbers(run: Run) -> None:
    result = run(*GREEDY, "-u", "-o", "seed", "5", "What is 3 times 12?")
    assert "Token usage: 14 input" in result.stderr
    (log,) = json.loads(run("logs", "--json").stdout)
    end = log["response_json"]
    assert (end["model"], end["finish_reason"], end["finish_cause"], end["seed"]) == ("ds4-tiny", "stop", "eos", 5)
    assert end["timings"]["decode_tokens_per_second"] > 0
    assert log["resolved_model"] == "ds4-tiny"


def test_max_tokens_cuts_the_answer(run: Run) -> None:
    run(*GREEDY, "-o", "max_tokens", "3", "-o", "thinking", "0", "What is 3 times 12?")
    (log,) = json.loads(run("logs", "--json").stdout)
    assert (log["response_json"]["finish_reason"], log["output_tokens"]) == ("length", 3)


def test_two_async_answers_at_once_both_arrive() -> None:
    async def both() -> list[str]:
        model = llm.get_async_model("ds4-tiny")
        asked = [model.prompt(text, temperature=0) for text in ("What is 3 times 12?", "What's 12 plus 30?")]
        return list(await asyncio.gather(*(response.text() for response in asked)))

    one, two = asyncio.run(both())
    assert "36" in one
    assert "42" in two
