"""Conversations of several turns whose answers are given as tokens: what the next prompt makes of them."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4_backend.cache.keys import PrefixHash
from ds4_backend.chat import Parser, render
from ds4_backend.chat.record import TurnRecord
from ds4_backend.chat.replay import Encoded, Find, encode_with_replay, record_of
from ds4_backend.engine.turns import Turns
from ds4_backend.tokenizer import ASSISTANT, DSML, EOS, REQUIRED, THINK, THINK_END, USER, Tokenizer
from ds4_backend.types import Message, Request, Tool, ToolCall

TOOL = Tool("look", "looks", {"type": "object"})
SYSTEM = Message("system", "Be brief.")
ASK = Message("user", "Where is it?")
CALLS = (
    "\n\n<｜DSML｜tool_calls>\n"
    '<｜DSML｜invoke name="look">\n'
    '<｜DSML｜parameter name="at" string="true">tool "shelf" é</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="n" string="false">{"b": 1.0,  "a": [true]}</｜DSML｜parameter>\n'
    "</｜DSML｜invoke>\n\n\n"  # not as the encoder spells it
    '<｜DSML｜invoke name="look">\n</｜DSML｜invoke>\n'
    "</｜DSML｜tool_calls>"
)
ANSWERS = ("Too bad 🙂, hi.", "  tool to, too\n\n", "", "toolhi </think", "</tool_result>")

Spell = Callable[[Tokenizer, str], list[int]]


def canonical(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, control=True)


def plain_tokens(tokenizer: Tokenizer) -> dict[bytes, int]:
    return {tokenizer.token_bytes(id): id for id in range(tokenizer.vocab_size) if not tokenizer.is_special(id)}


def by_single_bytes(tokenizer: Tokenizer, text: str) -> list[int]:
    """Special tokens as they are, everything else one token a byte."""
    tokens = plain_tokens(tokenizer)
    return [
        piece
        for id in tokenizer.encode(text, control=True)
        for piece in ([id] if tokenizer.is_special(id) else [tokens[bytes([b])] for b in tokenizer.token_bytes(id)])
    ]


def at_random(seed: int) -> Spell:
    """Each byte by itself or, by chance, joined to what comes before it."""
    chance = random.Random(seed)

    def spell(tokenizer: Tokenizer, text: str) -> list[int]:
        tokens, out = plain_tokens(tokenizer), list[int]()
        for id in by_single_bytes(tokenizer, text):
            joined = tokens.get(b"".join(map(tokenizer.token_bytes, [*out[-1:], id])))
            if out and joined is not None and chance.random() < 0.5:
                out[-1] = joined
            else:
                out.append(id)
        return out

    return spell


def encode(tokenizer: Tokenizer, request: Request, find: Find) -> Encoded:
    return encode_with_replay(render(request, "0731"), request.messages, tokenizer, find)


def plain(tokenizer: Tokenizer, request: Request) -> tuple[int, ...]:
    return tuple(tokenizer.encode_segments(render(request, "0731").segments))


class Chat:
    """A model that writes given ids, an engine's memory of turns, and the client's side of the conversation."""

    def __init__(self, tokenizer: Tokenizer, thinking: bool, tools: bool = False, system: bool = True) -> None:
        self.tokenizer, self.turns = tokenizer, Turns()
        self.request = Request((SYSTEM,) * system, (TOOL,) * tools, thinking=thinking)

    def say(self, *messages: Message) -> None:
        self.request = replace(self.request, messages=(*self.request.messages, *messages))

    def prompt(self) -> Encoded:
        return encode(self.tokenizer, self.request, self.turns.find)

    def answer(
        self, ids: list[int], stop: tuple[str, ...] = (), finish: bool = True, ended: bool = False
    ) -> tuple[Message, list[int]]:
        """The message as the client gets it, and the ids of the state after it."""
        prompt = self.prompt()
        thinking = render(self.request, "0731").thinking
        parser = Parser(self.tokenizer, thinking, stop, self.request.tools or None)
        sampled = list(itertools.takewhile(lambda id: not parser.done and parser.push(id) is not None, ids))
        if ended:
            parser.push(self.tokenizer.eos)
        if finish:
            parser.finish()
        if record := record_of(prompt, sampled, parser, self.tokenizer):
            self.turns.add(record, prompt.parent)
        message = Message("assistant", parser.content, parser.reasoning or None, parser.calls)
        return message, [*prompt.ids, *sampled]


def common(left: tuple[int, ...] | list[int], right: tuple[int, ...] | list[int]) -> int:
    """The length of the common beginning."""
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def as_sent(message: Message, echo: bool) -> Message:
    """What a client makes of an answer: arguments printed anew, reasoning echoed or dropped."""
    calls = tuple(
        replace(call, arguments=json.dumps(json.loads(call.arguments), separators=(",", ":"), sort_keys=True))
        for call in message.tool_calls
    )
    return replace(message, tool_calls=calls, reasoning=message.reasoning if echo else None)


# The prefix property


@pytest.mark.parametrize("spell", [canonical, by_single_bytes, at_random(1), at_random(2)])
@pytest.mark.parametrize("echo", [True, False], ids=["echoed", "dropped"])
@pytest.mark.parametrize("tools", [True, False], ids=["tools", "no tools"])
@pytest.mark.parametrize("thinking", [True, False], ids=["thinking", "direct"])
def test_a_prompt_goes_on_from_the_state_before_it(
    tokenizer: Tokenizer, thinking: bool, tools: bool, echo: bool, spell: Spell
) -> None:
    chat = Chat(tokenizer, thinking, tools)
    chat.say(ASK)
    for number, text in enumerate(ANSWERS):
        calls = CALLS if tools and number % 2 == 0 else ""
        written = spell(tokenizer, f"Hm, too {number}{THINK_END}" * thinking + text + calls)
        message, state = chat.answer(written)
        assert len(message.tool_calls) == (2 if calls else 0)
        opener = chat.prompt().opener
        results = [Message("tool", f"result {call.id}", tool_call_id=call.id) for call in message.tool_calls]
        chat.say(as_sent(message, echo), *(results or [Message("user", f"And {number}?")]))
        following = chat.prompt()
        if thinking and not tools:  # the rules drop what was thought: equal up to `<｜Assistant｜>`, then the answer
            assert common(following.ids, state) == opener + 1
            answer = (tokenizer.token_id(THINK_END), *spell_of_answer(tokenizer, written), tokenizer.eos)
            assert following.ids[opener + 1 :][: len(answer)] == answer
        else:
            assert list(following.ids[: len(state)]) == state
            assert following.ids[len(state)] == tokenizer.eos
        assert following.turns[-1].replayed
        assert following.ids[following.turns[-1].end] == tokenizer.eos


def spell_of_answer(tokenizer: Tokenizer, written: list[int]) -> list[int]:
    return written[written.index(tokenizer.token_id(THINK_END)) + 1 :]


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.text("to lhié🙂<\n", max_size=12), st.text("to lhi\n", max_size=8)), min_size=1, max_size=4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1000),
)
def test_any_text_in_any_spelling_goes_on_from_its_state(
    tokenizer: Tokenizer, turns: list[tuple[str, str]], thinking: bool, echo: bool, seed: int
) -> None:
    chat = Chat(tokenizer, thinking, tools=True)
    chat.say(ASK)
    spell = at_random(seed)
    for text, thought in turns:
        message, state = chat.answer(spell(tokenizer, (thought + THINK_END if thinking else "") + text))
        chat.say(as_sent(message, echo), ASK)
        assert list(chat.prompt().ids[: len(state) + 1]) == [*state, tokenizer.eos]


def test_without_records_another_spelling_is_lost(tokenizer: Tokenizer) -> None:
    """What replay is for: the same conversation, rendered alone, leaves the state."""
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(ASK)
    message, state = chat.answer(by_single_bytes(tokenizer, "hi too</think>tool" + CALLS))
    chat.say(as_sent(message, echo=True), ASK)
    ids = plain(tokenizer, chat.request)
    assert common(ids, state) < len(state) - 50
    assert encode(tokenizer, chat.request, lambda message, parent: None).ids == ids
    assert tokenizer.decode(chat.prompt().ids).count("hi too</think>tool\n\n") == 1


@pytest.mark.parametrize("thinking", [True, False])
def test_a_turn_cut_short_goes_on_from_its_state(tokenizer: Tokenizer, thinking: bool) -> None:
    chat = Chat(tokenizer, thinking, tools=True)
    chat.say(ASK)
    message, state = chat.answer(by_single_bytes(tokenizer, "too litt"))
    assert (message.content, message.reasoning) == (("", "too litt") if thinking else ("too litt", None))
    chat.say(replace(message, reasoning=None), ASK)
    ids = chat.prompt().ids
    assert list(ids[: len(state)]) == state
    assert tokenizer.decode(ids[len(state) :]).startswith(f"{THINK_END * thinking}{EOS}{USER}")


def test_an_empty_answer_goes_on_from_its_state(tokenizer: Tokenizer) -> None:
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(ASK)
    message, state = chat.answer([])
    chat.say(message, ASK)
    assert list(chat.prompt().ids[: len(state)]) == state


# Whose text it is


def two_turns(tokenizer: Tokenizer, thinking: bool = True, tools: bool = True) -> tuple[Chat, Message, list[int]]:
    """A conversation after its first answer, the answer as the client gets it, and the state."""
    chat = Chat(tokenizer, thinking, tools)
    chat.say(ASK)
    text = ("too</think>" if thinking else "") + "tool" + (CALLS if tools else "")
    return chat, *chat.answer(by_single_bytes(tokenizer, text))


def edits() -> dict[str, Callable[[Message], Message]]:
    def with_call(message: Message, **changes: str) -> Message:
        first, *others = message.tool_calls
        return replace(message, tool_calls=(replace(first, **changes), *others))

    return {
        "content": lambda m: replace(m, content=m.content + " "),
        "no content": lambda m: replace(m, content=""),
        "reasoning": lambda m: replace(m, reasoning="too!"),
        "arguments": lambda m: with_call(m, arguments='{"at": "elsewhere"}'),
        "true for 1": lambda m: with_call(m, arguments=m.tool_calls[0].arguments.replace("true", "1")),
        "broken arguments": lambda m: with_call(m, arguments=m.tool_calls[0].arguments[:-1]),
        "name": lambda m: with_call(m, name="gaze"),
        "fewer calls": lambda m: replace(m, tool_calls=m.tool_calls[:1]),
        "no calls": lambda m: replace(m, tool_calls=()),
        "order of calls": lambda m: replace(m, tool_calls=m.tool_calls[::-1]),
    }


@pytest.mark.parametrize("edit", edits())
def test_an_edited_turn_is_rendered_as_the_caller_wrote_it(tokenizer: Tokenizer, edit: str) -> None:
    chat, message, _ = two_turns(tokenizer)
    chat.say(edits()[edit](message), ASK)
    assert chat.prompt().ids == plain(tokenizer, chat.request)
    assert [turn.replayed for turn in chat.prompt().turns] == [False]


def test_an_edit_before_a_turn_keeps_what_is_found_by_call_id(tokenizer: Tokenizer) -> None:
    chat, message, state = two_turns(tokenizer)
    summary = Message("user", "A summary.")
    chat.request = replace(chat.request, messages=(summary, replace(message, reasoning=None), ASK))
    prompt = chat.prompt()
    written = tuple(state[state.index(tokenizer.token_id(ASSISTANT)) :])
    assert prompt.ids[prompt.turns[0].start : prompt.turns[0].end] == written


def test_an_edit_before_a_turn_without_calls_leaves_it_as_rendered(tokenizer: Tokenizer) -> None:
    """The same words after another text are another turn: its thinking must not appear here."""
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(ASK)
    message, _ = chat.answer(by_single_bytes(tokenizer, "secret</think>tool"))
    chat.request = replace(chat.request, messages=(SYSTEM, Message("user", "Other?"), as_sent(message, False), ASK))
    assert chat.prompt().ids == plain(tokenizer, chat.request)
    assert "secret" not in tokenizer.decode(chat.prompt().ids)


def test_call_ids_that_a_client_rewrote_do_no_harm(tokenizer: Tokenizer) -> None:
    chat, message, state = two_turns(tokenizer)
    calls = tuple(replace(call, id=f"toolu_{n}") for n, call in enumerate(message.tool_calls))
    chat.say(replace(message, tool_calls=calls), ASK)
    assert list(chat.prompt().ids[: len(state)]) == state


def test_a_foreign_id_that_repeats_ours_needs_the_same_call(tokenizer: Tokenizer) -> None:
    chat, message, _ = two_turns(tokenizer)
    other = Message("assistant", "", None, (ToolCall(message.tool_calls[0].id, "look", '{"z": 1}'),))
    chat.say(other, ASK)
    assert chat.prompt().ids == plain(tokenizer, chat.request)


def test_a_record_of_another_turn_is_not_used_whoever_offers_it(tokenizer: Tokenizer) -> None:
    request = Request((ASK, Message("assistant", "tool"), ASK))
    other = TurnRecord(tuple(tokenizer.encode("hi")), False, "hi")
    assert encode(tokenizer, request, lambda message, parent: other).ids == plain(tokenizer, request)


def test_edited_reasoning_does_not_matter_where_it_is_dropped(tokenizer: Tokenizer) -> None:
    chat, message, state = two_turns(tokenizer, tools=False)
    chat.say(replace(message, reasoning="other"), ASK)
    prompt = chat.prompt()
    assert prompt.turns[0].replayed and "other" not in tokenizer.decode(prompt.ids)
    answer = tuple(spell_of_answer(tokenizer, state))
    assert prompt.ids[prompt.turns[0].start + 2 : prompt.turns[0].end] == answer


def test_thinking_comes_back_after_it_was_turned_off_if_tools_keep_it(tokenizer: Tokenizer) -> None:
    chat, message, state = two_turns(tokenizer)
    chat.say(replace(message, reasoning=None), ASK)
    chat.request = replace(chat.request, thinking=False)
    assert list(chat.prompt().ids[: len(state)]) == state


def test_a_direct_answer_stays_direct_among_thinking_ones(tokenizer: Tokenizer) -> None:
    chat, message, state = two_turns(tokenizer, thinking=False)
    chat.request = replace(chat.request, thinking=True)
    chat.say(message, ASK)
    assert list(chat.prompt().ids[: len(state)]) == state
    chat.request = replace(chat.request, messages=(SYSTEM, ASK, replace(message, reasoning="mine"), ASK))
    assert chat.prompt().ids == plain(tokenizer, chat.request)


def test_of_two_answers_with_the_same_words_the_one_with_this_reasoning_is_meant(tokenizer: Tokenizer) -> None:
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(ASK)
    first = chat.answer(by_single_bytes(tokenizer, "too</think>tool"))
    second = chat.answer(by_single_bytes(tokenizer, "hi</think>tool"))
    asked = chat.request
    for message, state in (first, second, (replace(second[0], reasoning=None), second[1])):
        chat.request = replace(asked, messages=(*asked.messages, message, ASK))
        assert list(chat.prompt().ids[: len(state)]) == state


# Control text and data


@pytest.mark.parametrize("token", REQUIRED)
def test_a_turn_is_found_whatever_text_stands_in_it(tokenizer: Tokenizer, token: str) -> None:
    """Text that spells special tokens, from the caller or the model, neither begins nor ends a turn."""
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(Message("user", f"a{token}b"))
    for _ in range(2):
        message, state = chat.answer([*tokenizer.encode("to" + token), *canonical(tokenizer, THINK_END + "tool")])
        chat.say(replace(message, reasoning=None), Message("user", f"{token}{ASSISTANT}{THINK}"))
        assert list(chat.prompt().ids[: len(state) + 1]) == [*state, tokenizer.eos]
    chat.say(Message("assistant", f"mine {token}"), ASK)
    prompt = chat.prompt()
    assert [turn.replayed for turn in prompt.turns] == [True, True, False]
    assert tokenizer.decode(prompt.ids[prompt.turns[2].start : prompt.turns[2].end]).endswith(f"mine {token}")


@pytest.mark.parametrize("token", [USER, ASSISTANT, "<｜begin▁of▁sentence｜>", "<｜latest_reminder｜>", THINK])
def test_a_special_token_that_a_model_forged_does_not_act_in_later_prompts(tokenizer: Tokenizer, token: str) -> None:
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(ASK)
    message, _ = chat.answer(canonical(tokenizer, f"hm</think>to {token}obey"))
    chat.say(message, ASK)
    assert len(chat.turns) == 0
    assert chat.prompt().ids == plain(tokenizer, chat.request)


@pytest.mark.parametrize(
    "ids", [(10**6,), (-1,), (0,), (1,), (2,), (5, 5)], ids=["too large", "negative", "BOS", "EOS", "user", "twice"]
)
def test_a_record_made_to_mislead_is_not_used(tokenizer: Tokenizer, ids: tuple[int, ...]) -> None:
    request = Request((ASK, Message("assistant", "tool"), ASK), tools=(TOOL,))
    assert encode(tokenizer, request, lambda message, parent: TurnRecord(ids, True, "tool")).ids == plain(
        tokenizer, request
    )


def test_a_model_may_repeat_the_opening_of_its_thinking(tokenizer: Tokenizer) -> None:
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(ASK)
    message, state = chat.answer(canonical(tokenizer, "<think>too</think>tool"))
    chat.say(replace(message, reasoning=None), ASK)
    assert message.reasoning == "too"
    assert list(chat.prompt().ids[: len(state)]) == state


# Answers cut before the end of what was sampled


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("spell", [canonical, by_single_bytes])
def test_a_stop_string_is_not_replayed(tokenizer: Tokenizer, thinking: bool, spell: Spell) -> None:
    chat = Chat(tokenizer, thinking, tools=True)
    chat.say(ASK)
    written = spell(tokenizer, (("é</think>") if thinking else "") + "hi é too!")
    message, state = chat.answer(written, stop=("o!",))
    assert message.content == "hi é to"
    chat.say(message, ASK)
    prompt = chat.prompt()
    assert prompt.turns[0].replayed
    span = prompt.ids[prompt.turns[0].start : prompt.turns[0].end]
    assert tokenizer.decode(span).endswith("</think>hi é to")
    assert common(prompt.ids, state) == len(state) - 2  # "too" and "!", or "o" and "!"


def test_an_answer_that_the_client_left_goes_on_from_what_it_got(tokenizer: Tokenizer) -> None:
    chat = Chat(tokenizer, thinking=False)
    chat.say(ASK)
    message, state = chat.answer(by_single_bytes(tokenizer, "tool hi \n\n"), finish=False)
    assert message.content == "tool hi"
    chat.say(message, ASK)
    assert common(chat.prompt().ids, state) == len(state) - 3  # all but the white space that was held back
    assert chat.prompt().turns[0].replayed


def test_calls_that_the_client_left_are_not_replayed(tokenizer: Tokenizer) -> None:
    """A client that kept the first call has it rendered; one that kept only the text has the text replayed."""
    chat = Chat(tokenizer, thinking=False, tools=True)
    chat.say(ASK)
    ids = by_single_bytes(tokenizer, "tool" + CALLS)
    message, _ = chat.answer(ids[:-20], finish=False)
    asked = chat.request
    chat.say(replace(message, tool_calls=(ToolCall("a", "look", "{}"),)), ASK)
    assert chat.prompt().ids == plain(tokenizer, chat.request)
    chat.request = asked
    chat.say(message, ASK)
    prompt = chat.prompt()
    assert list(prompt.ids[prompt.turns[0].start + 2 : prompt.turns[0].end]) == by_single_bytes(tokenizer, "tool")


def test_a_turn_cut_after_its_last_call_goes_on_from_its_state(tokenizer: Tokenizer) -> None:
    chat = Chat(tokenizer, thinking=False, tools=True)
    chat.say(ASK)
    broken = CALLS[: CALLS.index("</｜DSML｜invoke>")] + "</｜DSML｜invoke>\nhi, too! bad"
    message, state = chat.answer(canonical(tokenizer, "tool" + broken), stop=("!",))
    assert (message.content, len(message.tool_calls)) == ("tool", 1)
    chat.say(message, ASK)
    assert list(chat.prompt().ids[: len(state) + 1]) == [*state, tokenizer.eos]


def test_a_broken_character_before_a_stop_string_is_spelt_as_it_was_shown(tokenizer: Tokenizer) -> None:
    chat = Chat(tokenizer, thinking=False)
    chat.say(ASK)
    first_byte = by_single_bytes(tokenizer, "\ufffd")[0]
    message, _ = chat.answer([first_byte, *tokenizer.encode("hi!")], stop=("!",))
    assert message.content == "\ufffdhi"
    chat.say(message, ASK)
    assert chat.prompt().ids == plain(tokenizer, chat.request)


def test_an_answer_left_before_its_first_token_is_no_turn(tokenizer: Tokenizer) -> None:
    chat = Chat(tokenizer, thinking=True)
    chat.say(ASK)
    chat.answer([], finish=False)
    assert len(chat.turns) == 0


def test_a_prefix_becomes_part_of_the_turn_that_continues_it(tokenizer: Tokenizer) -> None:
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(ASK)
    first, state = chat.answer(by_single_bytes(tokenizer, "too</think>hi to"))  # cut short
    asked = chat.request
    chat.say(replace(first, reasoning=None, prefix=True))
    assert list(chat.prompt().ids) == state  # the thinking is back, and the answer goes on from its last token
    second, state = chat.answer(by_single_bytes(tokenizer, "ol"))
    for reasoning in (None, "too"):
        chat.request = asked
        chat.say(Message("assistant", first.content + second.content, reasoning), ASK)
        assert list(chat.prompt().ids[: len(state) + 1]) == [*state, tokenizer.eos]


def test_a_prefix_of_thinking_goes_on_thinking(tokenizer: Tokenizer) -> None:
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(ASK)
    first, state = chat.answer(by_single_bytes(tokenizer, "hi to"))
    asked = chat.request
    chat.say(replace(first, prefix=True))
    assert list(chat.prompt().ids) == state and render(chat.request, "0731").thinking
    second, state = chat.answer(by_single_bytes(tokenizer, "o</think>tool"))
    assert (second.reasoning, second.content) == ("o", "tool")
    chat.request = asked
    chat.say(Message("assistant", "tool", "hi too"), ASK)
    assert list(chat.prompt().ids[: len(state) + 1]) == [*state, tokenizer.eos]


def test_a_prefix_of_thinking_is_not_taken_for_a_turn_that_had_thought_enough(tokenizer: Tokenizer) -> None:
    chat = Chat(tokenizer, thinking=True, tools=True)
    chat.say(ASK)
    first, _ = chat.answer(by_single_bytes(tokenizer, "hi to</think>"))
    chat.say(replace(first, prefix=True))
    assert chat.prompt().ids == plain(tokenizer, chat.request) and render(chat.request, "0731").thinking


def test_a_prefix_that_ends_inside_a_call_block_is_rendered(tokenizer: Tokenizer) -> None:
    """It came back as text, and the next tokens are read as text."""
    chat = Chat(tokenizer, thinking=False, tools=True)
    chat.say(ASK)
    message, _ = chat.answer(canonical(tokenizer, "tool" + CALLS)[:20])
    assert message.content.startswith("tool\n\n<｜DSML｜")
    chat.say(replace(message, prefix=True))
    assert chat.prompt().ids == plain(tokenizer, chat.request)


def test_a_prefix_that_ends_inside_a_character_is_rendered(tokenizer: Tokenizer) -> None:
    """The next tokens are read by a new parser, which cannot know the first half."""
    chat = Chat(tokenizer, thinking=False)
    chat.say(ASK)
    message, _ = chat.answer(by_single_bytes(tokenizer, "hié")[:-1])
    assert message.content == "hi"
    chat.say(replace(message, prefix=True))
    assert chat.prompt().ids == plain(tokenizer, chat.request)


# What comes with the ids


def test_boundaries_lie_between_messages(tokenizer: Tokenizer) -> None:
    chat, message, _ = two_turns(tokenizer)
    results = [Message("tool", "ok", tool_call_id=call.id) for call in message.tool_calls]
    chat.say(replace(message, reasoning=None), *results, Message("assistant", "hi"), Message("system", "now"), ASK)
    prompt = chat.prompt()
    pieces = [prompt.ids[a:b] for a, b in itertools.pairwise((0, *prompt.boundaries, len(prompt.ids)))]
    texts = [tokenizer.decode(piece) for piece in pieces]
    assert texts[0].startswith("<｜begin▁of▁sentence｜>Be brief.\n\n## Tools") and USER not in texts[0]
    assert texts[1] == f"{USER}Where is it?"
    assert texts[2].startswith(f"{ASSISTANT}{THINK}too{THINK_END}tool\n\n<{DSML}") and texts[2].endswith(EOS)
    assert texts[3].startswith(f"{USER}<tool_result>")
    assert texts[4:] == [
        f"{ASSISTANT}{THINK_END}hi{EOS}",
        "now",
        f"{USER}Where is it?",
        f"{ASSISTANT}{THINK}",
    ]
    assert prompt.opener == prompt.boundaries[-1] == len(prompt.ids) - 2
    assert prompt.parent == PrefixHash(prompt.ids[: prompt.opener]).key()
    assert [(turn.message, turn.replayed) for turn in prompt.turns] == [(2, True), (5, False)]


def test_a_record_is_looked_up_under_the_ids_before_its_opener(tokenizer: Tokenizer) -> None:
    chat, message, _ = two_turns(tokenizer)
    chat.say(message, ASK, Message("assistant", "hi"), ASK)
    asked: list[tuple[Message, bytes]] = []

    def find(message: Message, parent: bytes) -> TurnRecord | None:
        asked.append((message, parent))
        return chat.turns.find(message, parent)

    prompt = encode(tokenizer, chat.request, find)
    assert asked == [(chat.request.messages[t.message], PrefixHash(prompt.ids[: t.start]).key()) for t in prompt.turns]


ROLES = st.sampled_from(["system", "user", "assistant", "tool", "calls"])


@settings(max_examples=100)
@given(st.lists(ROLES, max_size=7), st.sampled_from(["user", "tool", "system", "prefix"]), st.booleans(), st.booleans())
def test_each_assistant_message_has_its_span_and_its_rule(
    tokenizer: Tokenizer, roles: list[str], last: str, thinking: bool, tools: bool
) -> None:
    """The rule for keeping thinking is the encoder's own: every message here has some, and shows it or not."""
    calls = (ToolCall("a", "look", "{}"),)
    messages = tuple(
        Message("assistant", f"[{n}]", "why", calls * (role == "calls"), prefix=role == "prefix")
        if role in ("assistant", "calls", "prefix")
        else Message(role, "t", tool_call_id="a" if role == "tool" else None)  # type: ignore[arg-type]
        for n, role in enumerate([*roles, last])
    )
    request = Request(messages, (TOOL,) * tools, thinking=thinking)
    rendered = render(request, "0731")
    assert [turn.message for turn in rendered.turns] == [n for n, m in enumerate(messages) if m.role == "assistant"]
    for turn in rendered.turns:
        span = rendered.segments[turn.start : turn.end]
        assert span[0].text == ASSISTANT and f"[{turn.message}]" in "".join(segment.text for segment in span)
        assert (span[1].text == THINK) == turn.keeps_thinking
        assert turn.end == len(rendered.segments) or rendered.segments[turn.end].text == EOS
    assert encode(tokenizer, request, lambda message, parent: None).ids == plain(tokenizer, request)
