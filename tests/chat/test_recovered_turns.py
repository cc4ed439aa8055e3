"""Turns whose calls had to be repaired, in the prompts that come after them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_replay import ASK, Chat, as_sent, by_single_bytes, canonical, plain  # beside this file

from ds4_backend.chat.render import render
from ds4_backend.chat.replay import encode_with_replay
from ds4_backend.tokenizer import DSML, THINK, THINK_END, Tokenizer
from ds4_backend.types import Message

BLOCK = f"""<{DSML}tool_calls>
<{DSML}invoke name="look">
<{DSML}parameter name="at" string="true">a "shelf" é</{DSML}parameter>
</{DSML}invoke>
</{DSML}tool_calls>"""
ENDS = {
    "misspelt": BLOCK.replace(DSML, "") + "\n",
    "bars": BLOCK.replace(DSML, f"｜{DSML}｜"),
    "quotes": BLOCK.replace('="true"', "=“true”"),
    "no string attribute": BLOCK.replace(' string="true"', ""),
    "unclosed": BLOCK.rpartition(f"</{DSML}parameter")[0],
    "cut": BLOCK.rpartition("</")[0] + "and so on",
}
REPAIRED = {kind: f"too\n\n{block}" for kind, block in ENDS.items()}


def result_of(message: Message) -> Message:
    return Message("tool", "it is there", tool_call_id=message.tool_calls[0].id)


@pytest.mark.parametrize("echo", [True, False], ids=["echoed", "dropped"])
@pytest.mark.parametrize("thinking", [True, False], ids=["thinking", "direct"])
@pytest.mark.parametrize("kind", REPAIRED)
def test_a_prompt_goes_on_from_a_repaired_turn(tokenizer: Tokenizer, kind: str, thinking: bool, echo: bool) -> None:
    chat = Chat(tokenizer, thinking, tools=True)
    chat.say(ASK)
    written = by_single_bytes(tokenizer, f"Hm{THINK_END}" * thinking + REPAIRED[kind])
    message, state = chat.answer(written, ended=True)
    assert (message.content, len(message.tool_calls)) == ("too", 1)
    chat.say(as_sent(message, echo), result_of(message))
    assert list(chat.prompt().ids[: len(state) + 1]) == [*state, tokenizer.eos]


@pytest.mark.parametrize("echo", [True, False], ids=["echoed", "dropped"])
def test_a_turn_that_called_inside_its_thinking_stays_as_it_was(tokenizer: Tokenizer, echo: bool) -> None:
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(ASK)
    message, state = chat.answer(canonical(tokenizer, f"Hm, too\n\n{BLOCK}"), ended=True)
    assert (message.content, message.reasoning, len(message.tool_calls)) == ("", "Hm, too\n\n", 1)
    chat.say(as_sent(message, echo), result_of(message))
    assert list(chat.prompt().ids[: len(state) + 1]) == [*state, tokenizer.eos]


def test_such_a_turn_is_rendered_anew_where_thinking_is_not_shown(tokenizer: Tokenizer) -> None:
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(ASK)
    message, _ = chat.answer(canonical(tokenizer, f"Hm, too\n\n{BLOCK}"), ended=True)
    chat.say(message, result_of(message))
    quiet = replace(chat.request, thinking=False, tools=())
    encoded = encode_with_replay(render(quiet, "0731"), quiet.messages, tokenizer, chat.turns.find)
    assert encoded.ids == plain(tokenizer, quiet) and not encoded.turns[0].replayed
    text = tokenizer.decode(encoded.ids)
    assert BLOCK in text and THINK not in text.replace(THINK_END, "")


def test_a_quotation_is_replayed_as_text(tokenizer: Tokenizer) -> None:
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(ASK)
    thought, text = f"Hm\n{BLOCK} too\n", REPAIRED["misspelt"] + "hi"
    message, state = chat.answer(by_single_bytes(tokenizer, thought + THINK_END + text), ended=True)
    assert (message.content, message.reasoning) == (text, thought)
    chat.say(as_sent(message, False), ASK)
    assert list(chat.prompt().ids[: len(state) + 1]) == [*state, tokenizer.eos]
