from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds4_backend.chat import Parser, render
from ds4_backend.chat.parse import new_call_id
from ds4_backend.errors import RequestError
from ds4_backend.tokenizer import ASSISTANT, DSML, EOS, REQUIRED, THINK_END, Tokenizer
from ds4_backend.types import (
    Alternative,
    Event,
    Message,
    ReasoningDelta,
    Request,
    TextDelta,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
)

ASK = Message("user", "Q")
CALLS_OPEN, CALLS_CLOSE = f"<{DSML}tool_calls>", f"</{DSML}tool_calls>"


def counting_ids() -> Any:
    return (f"id{n}" for n in itertools.count()).__next__


def call(name: str, *parameters: str) -> str:
    lines = [f'<{DSML}invoke name="{name}">', *parameters, f"</{DSML}invoke>"]
    return "\n".join(lines)


def string(name: str, value: str) -> str:
    return f'<{DSML}parameter name="{name}" string="true">{value}</{DSML}parameter>'


def other(name: str, value: str) -> str:
    return f'<{DSML}parameter name="{name}" string="false">{value}</{DSML}parameter>'


def block(*calls: str) -> str:
    return "\n".join([CALLS_OPEN, *calls, CALLS_CLOSE])


def parse(tokenizer: Tokenizer, ids: list[int], thinking: bool = False, **options: Any) -> tuple[Parser, list[Event]]:
    parser = Parser(tokenizer, thinking, new_id=counting_ids(), **options)
    events = [event for id in ids for event in parser.push(id)]
    return parser, events + parser.finish()


def merged(events: list[Event]) -> list[Event]:
    """Neighbouring deltas of one kind joined, as any reader would."""
    out: list[Event] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, TextDelta | ReasoningDelta) and type(last) is type(event):
            out[-1] = type(event)(last.text + event.text)
        elif isinstance(event, ToolCallDelta) and isinstance(last, ToolCallDelta) and last.index == event.index:
            out[-1] = ToolCallDelta(event.index, last.text + event.text)
        else:
            out.append(event)
    return out


def read(tokenizer: Tokenizer, text: str, thinking: bool = False, **options: Any) -> tuple[Parser, list[Event]]:
    """Parse what a model would have sampled to write `text`."""
    parser, events = parse(tokenizer, tokenizer.encode(text, control=True), thinking, **options)
    return parser, merged(events)


def rejoined(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


# Plain answers


def test_thinking_and_answer_are_told_apart_by_the_token(tokenizer: Tokenizer) -> None:
    parser, events = read(tokenizer, f"so\n{THINK_END}Hi there{EOS}", thinking=True)
    assert events == [ReasoningDelta("so\n"), TextDelta("Hi there")]
    assert parser.done and parser.finish_reason == "stop"
    assert parser.reasoning_tokens == len(tokenizer.encode("so\n")) + 1


def test_the_characters_of_a_closing_tag_do_not_close_the_thinking(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode(f"a {THINK_END} b"), tokenizer.token_id(THINK_END), *tokenizer.encode("c")]
    _, events = parse(tokenizer, ids, thinking=True)
    assert merged(events) == [ReasoningDelta(f"a {THINK_END} b"), TextDelta("c")]


def test_a_repeated_opening_tag_is_swallowed(tokenizer: Tokenizer) -> None:
    _, events = read(tokenizer, f"<think>x{THINK_END}y", thinking=True)
    assert events == [ReasoningDelta("x"), TextDelta("y")]


def test_nothing_is_read_after_the_end_of_sentence(tokenizer: Tokenizer) -> None:
    parser, events = read(tokenizer, f"done{EOS}more{block(call('f'))}")
    assert events == [TextDelta("done")]
    assert parser.push(tokenizer.token_id("a")) == [] and parser.finish() == []


def test_an_emoji_split_over_tokens_arrives_whole(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("👩‍🚀")
    assert len(ids) > 3
    parser = Parser(tokenizer, thinking=False)
    pieces = [event.text for id in ids for event in parser.push(id)]
    assert "".join(pieces) == "👩‍🚀" and "\ufffd" not in "".join(pieces)


def test_a_character_cut_off_by_the_end_is_dropped(tokenizer: Tokenizer) -> None:
    _, events = parse(tokenizer, tokenizer.encode("ok🙂")[:-1])
    assert merged(events) == [TextDelta("ok")]


def test_white_space_at_the_end_of_an_answer_is_kept(tokenizer: Tokenizer) -> None:
    _, events = read(tokenizer, f"a \n\n{EOS}")
    assert events == [TextDelta("a \n\n")]


def test_text_streams_as_soon_as_it_is_certain(tokenizer: Tokenizer) -> None:
    parser = Parser(tokenizer, thinking=False)
    assert parser.push(tokenizer.token_id("a")) == [TextDelta("a")]
    assert parser.push(tokenizer.token_id("\n")) == []
    assert parser.push(tokenizer.token_id("b")) == [TextDelta("\nb")]
    assert parser.push(tokenizer.token_id("<")) == []
    assert parser.push(tokenizer.token_id("b")) == [TextDelta("<b")]


# Calls


def test_parallel_calls_are_read_with_their_arguments(tokenizer: Tokenizer) -> None:
    first = call("get_weather", string("city", "Rome"), other("days", "3"))
    second = call("f", other("opts", '{"units": "C"}'), other("yes", "true"))
    parser, events = read(tokenizer, f"Let me look.\n\n{block(first, second)}")
    assert events == [
        TextDelta("Let me look."),
        ToolCallStart(0, "id0", "get_weather"),
        ToolCallDelta(0, '{"city": "Rome", "days": 3}'),
        ToolCallStart(1, "id1", "f"),
        ToolCallDelta(1, '{"opts": {"units": "C"}, "yes": true}'),
    ]
    assert parser.done and parser.finish_reason == "tool_calls" and not parser.malformed
    assert parser.calls == (
        ToolCall("id0", "get_weather", '{"city": "Rome", "days": 3}'),
        ToolCall("id1", "f", '{"opts": {"units": "C"}, "yes": true}'),
    )


@pytest.mark.parametrize("inner", ["\n", "\n\n", ""])
def test_a_call_without_arguments_is_read_with_or_without_the_blank_line(tokenizer: Tokenizer, inner: str) -> None:
    parser, _ = read(tokenizer, block(f'<{DSML}invoke name="now">{inner}</{DSML}invoke>'))
    assert parser.calls == (ToolCall("id0", "now", "{}"),)


def test_the_turn_ends_with_the_block_and_not_with_the_end_of_sentence(tokenizer: Tokenizer) -> None:
    parser = Parser(tokenizer, thinking=False)
    for id in tokenizer.encode(block(call("f")), control=True):
        assert not parser.done
        parser.push(id)
    assert parser.done


def test_a_string_argument_streams_while_it_is_written(tokenizer: Tokenizer) -> None:
    parser = Parser(tokenizer, thinking=False)
    opening = f'{CALLS_OPEN}\n<{DSML}invoke name="f">\n<{DSML}parameter name="x" string="true">'
    for id in tokenizer.encode(opening, control=True):
        parser.push(id)
    assert parser.push(tokenizer.token_id("a")) == [ToolCallDelta(0, "a")]
    assert parser.push(tokenizer.token_id("\n")) == [ToolCallDelta(0, "\\n")]
    assert parser.push(tokenizer.token_id("</")) == []


def test_a_json_argument_waits_until_it_is_closed(tokenizer: Tokenizer) -> None:
    parser = Parser(tokenizer, thinking=False, new_id=counting_ids())
    head = f'{CALLS_OPEN}\n<{DSML}invoke name="f">\n<{DSML}parameter name="x" string="false">[1, 2'
    assert [e for id in tokenizer.encode(head, control=True) for e in parser.push(id)] == [ToolCallStart(0, "id0", "f")]
    tail = [e for id in tokenizer.encode(f"]</{DSML}parameter>", control=True) for e in parser.push(id)]
    assert tail == [ToolCallDelta(0, '{"x": [1, 2]')]


@pytest.mark.parametrize("bad", ["[1,", "NaN", "", "'a'", "[" * 20_000, "1e", "nul"])
def test_an_argument_that_is_not_json_becomes_a_json_string(tokenizer: Tokenizer, bad: str) -> None:
    parser, _ = read(tokenizer, block(call("f", other("x", bad))))
    assert json.loads(parser.calls[0].arguments) == {"x": bad}


def test_a_quoted_closing_tag_does_not_close_an_argument(tokenizer: Tokenizer) -> None:
    quoted = f"see </{DSML}parameter> and {CALLS_CLOSE}"
    before, after = block(call("f", string("x", "@"))).split("@")
    ids = [*tokenizer.encode(before, control=True), *tokenizer.encode(quoted), *tokenizer.encode(after, control=True)]
    parser, _ = parse(tokenizer, ids)
    assert json.loads(parser.calls[0].arguments) == {"x": quoted}


def test_only_the_blank_line_of_the_format_is_taken_from_before_a_block(tokenizer: Tokenizer) -> None:
    assert read(tokenizer, f"a \n\n\n{block(call('f'))}")[1][0] == TextDelta("a \n")
    assert read(tokenizer, f"a \n{block(call('f'))}")[1][0] == TextDelta("a")
    assert isinstance(read(tokenizer, f"\n\n{block(call('f'))}")[1][0], ToolCallStart)


def test_call_ids_hold_128_random_bits() -> None:
    one, another = new_call_id(), new_call_id()
    assert one != another and one.startswith("call_") and len(one) == len("call_") + 32
    int(one.removeprefix("call_"), 16)


def test_calls_are_read_as_the_vendors_own_parser_reads_them(tokenizer: Tokenizer) -> None:
    first = call("get_weather", string("city", 'Ro\nme "x"'), other("opts", '{"units": ["C", 1.5, null]}'))
    text = f"Let me look.\n\n{block(first, call('get_weather'), call('get_weather', string('city', '')))}"
    ours, _ = read(tokenizer, text)
    assert [json.loads(call.arguments) for call in ours.calls] == vendor_arguments(text)


def vendor_arguments(text: str) -> list[Any]:
    import deepseek_recipe as recipe

    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    body = {"model": "DeepSeek-V4-Pro", "messages": [{"role": "user", "content": "q"}], "tools": [tool]}
    body["thinking"] = {"type": "disabled"}
    request = recipe.ChatCompletionRequest(body).convert(recipe.ConversionOptions())
    generator = recipe.ChatCompletionRequest.chunk_generator(request, "id", "m")
    reader = recipe.StreamProcessor(generator, request.parsing_options)
    end = recipe.InferenceChunk.finish(recipe.InferenceFinishReason.Stop)
    sent = [recipe.InferenceChunk.ready(), recipe.InferenceChunk.text(text, 1), end]
    chunks = [json.loads(chunk.to_json()) for item in sent for chunk in reader.push(item)]
    arguments: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                arguments[call["index"]] = arguments.get(call["index"], "") + call["function"].get("arguments", "")
    return [json.loads(text) for text in arguments.values()]


# Markup that is not well formed: nothing is lost


@pytest.mark.parametrize(
    "text",
    [
        f"a {DSML} b",
        f"a\n\n<{DSML}tool_call> b",
        f'a\n\n<{DSML}invoke name="f">',
        f"a\n\n{CALLS_OPEN}",
        f"a\n\n{CALLS_OPEN}\n",
        f"a\n\n{CALLS_OPEN}\n{CALLS_CLOSE} b",
        f"a\n\n{CALLS_OPEN}\nplain words",
        f'a\n\n{CALLS_OPEN}\n<{DSML}invoke nam="f">\n</{DSML}invoke>\n{CALLS_CLOSE}',
        f'a\n\n{CALLS_OPEN}\n<{DSML}invoke name="">',
        f"a\n\n<{DSML}",
        "a\n\n<",
        f"{DSML}{DSML}<{DSML}<",
    ],
)
def test_markup_that_opens_no_call_comes_back_as_text(tokenizer: Tokenizer, text: str) -> None:
    parser, events = read(tokenizer, text + EOS)
    assert [type(event) for event in events] == [TextDelta]
    assert rejoined(events).replace("\n", "") == text.replace("\n", "")
    assert parser.calls == () and parser.finish_reason == "stop"


def test_the_turn_ends_at_words_after_a_complete_call(tokenizer: Tokenizer) -> None:
    parser, events = read(tokenizer, f"{CALLS_OPEN}\n{call('f', string('x', 'y'))}\nand so on{EOS}")
    assert parser.calls == (ToolCall("id0", "f", '{"x": "y"}'),)
    assert parser.warnings == ("cut_after_last_call",) and parser.malformed
    assert rejoined(events) == "" and parser.finish_reason == "tool_calls"


def test_a_second_block_after_a_broken_one_is_read(tokenizer: Tokenizer) -> None:
    parser, events = read(tokenizer, f"{CALLS_OPEN}\noops\n\n{block(call('f'))}")
    assert rejoined(events) == f"{CALLS_OPEN}\noops"
    assert parser.calls == (ToolCall("id0", "f", "{}"),) and parser.malformed


def test_calls_are_counted_on_after_a_broken_block(tokenizer: Tokenizer) -> None:
    parser, events = read(tokenizer, f'{CALLS_OPEN}\n<{DSML}invoke name="f">\noops\n\n{block(call("g"))}')
    assert [event for event in events if isinstance(event, ToolCallStart)] == [
        ToolCallStart(0, "id0", "f"),
        ToolCallStart(1, "id1", "g"),
    ]
    assert parser.calls == (ToolCall("id1", "g", "{}"),) and parser.invalid_calls == (0,)


def test_a_call_cut_off_in_a_string_keeps_what_was_written(tokenizer: Tokenizer) -> None:
    text = f'{CALLS_OPEN}\n<{DSML}invoke name="f">\n<{DSML}parameter name="x" string="true">abc</'
    parser, events = read(tokenizer, text)
    assert events == [ToolCallStart(0, "id0", "f"), ToolCallDelta(0, '{"x": "abc</')]
    assert parser.calls == () and parser.malformed


def test_a_call_cut_off_in_a_json_argument_gives_it_back_as_text(tokenizer: Tokenizer) -> None:
    head = f'<{DSML}parameter name="x" string="false">[1, 2'
    _, events = read(tokenizer, f'{CALLS_OPEN}\n<{DSML}invoke name="f">\n{head}')
    assert events[0] == ToolCallStart(0, "id0", "f") and rejoined(events).strip() == head


def test_call_markup_inside_the_thinking_stays_thinking(tokenizer: Tokenizer) -> None:
    quotation = block(call("f"))
    parser, events = read(tokenizer, f"{quotation} no{THINK_END}ok", thinking=True)
    assert events == [ReasoningDelta(f"{quotation} no"), TextDelta("ok")] and parser.calls == ()


# Stop strings


def test_a_stop_string_cuts_the_text_before_it(tokenizer: Tokenizer) -> None:
    parser, events = read(tokenizer, "one two three", stop=["two", "xyz"])
    assert events == [TextDelta("one ")]
    assert parser.done and parser.stop_string == "two" and parser.finish_reason == "stop"


def test_the_beginning_of_a_stop_string_is_held_back_and_released(tokenizer: Tokenizer) -> None:
    parser = Parser(tokenizer, thinking=False, stop=["abc"])
    assert parser.push(tokenizer.token_id("a")) == []
    assert parser.push(tokenizer.token_id("b")) == []
    assert parser.push(tokenizer.token_id("d")) == [TextDelta("abd")]


def test_stop_strings_are_not_looked_for_in_thinking_or_arguments(tokenizer: Tokenizer) -> None:
    text = f"STOP{THINK_END}go\n\n{block(call('f', string('x', 'STOP')))}"
    parser, events = read(tokenizer, text, thinking=True, stop=["STOP"])
    assert events[0] == ReasoningDelta("STOP") and parser.stop_string is None
    assert json.loads(parser.calls[0].arguments) == {"x": "STOP"}


def test_the_blank_line_before_a_block_is_no_stop_string(tokenizer: Tokenizer) -> None:
    parser, events = read(tokenizer, f"go\n\n{block(call('f'))}", stop=["\n\n"])
    assert events[0] == TextDelta("go") and len(parser.calls) == 1
    assert read(tokenizer, "go\n\non", stop=["\n\n"])[1] == [TextDelta("go")]


def test_an_empty_stop_string_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match="empty"):
        Parser(tokenizer, thinking=False, stop=[""])


def test_a_stop_string_in_a_quotation_cuts_it(tokenizer: Tokenizer) -> None:
    quoted = block(call("f", string("x", "STOP"))).replace(DSML, "")
    parser, events = read(tokenizer, f"a\n{quoted} b", tools=DECLARED, stop=["STOP"])
    assert rejoined(events) == f"a\n{quoted}".partition("STOP")[0] and parser.stop_string == "STOP"


# Log-probabilities, and what is withheld


def scored(parser: Parser, ids: list[int]) -> list[Event]:
    """The events of a parse in which token `n` has the log-probability -n."""
    return [
        event for n, id in enumerate(ids) for event in parser.push(id, TokenLogprob(Alternative(id, b"", float(-n))))
    ]


def scores(events: list[Event]) -> list[tuple[str, list[int]]]:
    return [(e.text, [int(-p.token.logprob) for p in e.logprobs]) for e in events if isinstance(e, TextDelta)]


def test_text_carries_the_log_probabilities_of_the_tokens_that_end_in_it(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.token_id(text) for text in ("a", "\n", "<", "b")]
    assert scores(scored(Parser(tokenizer, thinking=False), ids)) == [("a", [0]), ("\n<b", [1, 2, 3])]


def test_a_split_character_carries_all_its_tokens(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("é🙂!")
    events = scored(Parser(tokenizer, thinking=False), ids)
    assert "".join(text for text, _ in scores(events)) == "é🙂!"
    for text, numbers in scores(events):
        assert tokenizer.decode([ids[n] for n in numbers]) == text


def test_thinking_and_calls_carry_none(tokenizer: Tokenizer) -> None:
    text = f"so{THINK_END}go\n\n{block(call('f', string('x', 'y')))}"
    ids = tokenizer.encode(text, control=True)
    events = scored(Parser(tokenizer, thinking=True), ids)
    start = ids.index(tokenizer.token_id(THINK_END))
    assert scores(merged(events)) == [("go", [])]  # merging drops them
    assert [n for _, numbers in scores(events) for n in numbers] == [start + 1, start + 2]


def test_text_that_might_have_been_a_call_carries_its_own(tokenizer: Tokenizer) -> None:
    text = f"a {DSML} b\n\n{CALLS_OPEN}\noops"
    ids = tokenizer.encode(text, control=True)
    parser = Parser(tokenizer, thinking=False, tools=DECLARED)
    events = scored(parser, [*ids, tokenizer.eos])
    assert rejoined(events) == text
    assert [n for _, numbers in scores(events) for n in numbers] == list(range(len(ids)))


def test_a_token_behind_a_stop_string_is_not_reported(tokenizer: Tokenizer) -> None:
    events = scored(Parser(tokenizer, thinking=False, stop=["xy"]), tokenizer.encode("abxy"))
    assert [n for _, numbers in scores(events) for n in numbers] == [0, 1]


@pytest.mark.parametrize(
    ("text", "withheld"),
    [
        ("", False),
        ("a", False),
        ("a\n", True),
        ("a<", True),
        ('a\n<tool_calls>\n<invoke name="f">\nwait', True),
        (f'{CALLS_OPEN}\n<{DSML}invoke name="f">\n<{DSML}parameter name="x" string="true">abc', False),
        (f'{CALLS_OPEN}\n<{DSML}invoke name="f">\n<{DSML}parameter name="x" string="false">[1', True),
        (block(call("f")), False),
    ],
)
def test_what_is_withheld_is_told(tokenizer: Tokenizer, text: str, withheld: bool) -> None:
    parser = Parser(tokenizer, thinking=False, tools=DECLARED)
    for id in tokenizer.encode(text, control=True):
        parser.push(id)
    assert parser.withheld == withheld
    parser.finish()
    assert not parser.withheld


# Properties

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SPICE = st.sampled_from(
    [*REQUIRED, "<", "</", "\r\n", "\n\n", " ", '"', "&lt;/tool_result>", "👩‍🚀", "語", "\\", f"</{DSML}parameter>"]
)
WORDS = st.lists(TEXT | SPICE, max_size=5).map("".join)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"'), min_size=1, max_size=8)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=4,
)
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=3)
TURNS = st.tuples(WORDS, WORDS, st.lists(st.tuples(NAMES, ARGUMENTS), max_size=3))


def sampled_ids(tokenizer: Tokenizer, turn: Message) -> list[int]:
    """The ids that a later prompt holds for `turn`, from after `<｜Assistant｜>` to the end of sentence."""
    answers = [Message("tool", "r", tool_call_id=call.id) for call in turn.tool_calls]
    request = Request((Message("user", "Q"), turn, *answers, Message("user", "Q2")))
    segments = list(render(request, "0731").segments)
    opener = next(index for index, segment in enumerate(segments) if segment.text == ASSISTANT and segment.control)
    after = segments[opener + 1 :]
    end = next(index for index, segment in enumerate(after) if segment.text == EOS and segment.control)
    return tokenizer.encode_segments(after[: end + 1])


@settings(max_examples=80)
@given(TURNS)
def test_a_rendered_turn_parses_to_itself(tokenizer: Tokenizer, parts: tuple) -> None:
    reasoning, content, wanted = parts
    calls = tuple(
        ToolCall(f"id{index}", name, json.dumps(arguments, ensure_ascii=False))
        for index, (name, arguments) in enumerate(wanted)
    )
    kept = reasoning if calls else None  # without tool traffic the format drops old reasoning
    ids = sampled_ids(tokenizer, Message("assistant", content, kept, calls))
    opener, rest = ids[0], ids[1:]
    assert opener == tokenizer.token_id("<think>" if kept else THINK_END)
    parser, events = parse(tokenizer, rest, thinking=bool(kept))
    text = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    assert (text, rejoined(events)) == (kept or "", content)
    assert [(call.id, call.name) for call in parser.calls] == [(call.id, call.name) for call in calls]
    for parsed, call in zip(parser.calls, calls, strict=True):
        assert json.loads(parsed.arguments) == json.loads(call.arguments)
        streamed = [e.text for e in events if isinstance(e, ToolCallDelta) and f"id{e.index}" == call.id]
        assert "".join(streamed) == parsed.arguments


MARKUP = st.sampled_from(
    [
        CALLS_OPEN, CALLS_CLOSE, DSML, THINK_END, "\n\n", "\n", " ", "<", "</", "STOP", "ST", "語🙂", "word",
        call("f"), call("g", string("x", "a\nb")), call("h", other("y", "[1, 2]"), other("z", "oops")),
        block(call("f", string("x", "STOP"))), f'<{DSML}invoke name="f">', f'<{DSML}parameter name="k" string="maybe">',
        f'<{DSML}parameter name="k">', f"</{DSML}parameter>", f"</{DSML}invoke>", "```", "<tool_calls>", EOS,
        f"<{DSML}｜tool_calls>", f"</{DSML}｜tool_calls>", block(call("f", string("x", "a"))).replace(DSML, ""),
    ]
)  # fmt: skip
DECLARED = [Tool("f", parameters={"properties": {"x": {"type": "string"}, "k": {"type": "object"}}}), Tool("g")]


@settings(max_examples=150)
@given(st.lists(MARKUP, max_size=8).map("".join), st.booleans(), st.sampled_from([None, (), DECLARED]), st.integers(0))
def test_events_do_not_depend_on_the_tokenisation(
    tokenizer: Tokenizer, text: str, thinking: bool, tools: Any, seed: int
) -> None:
    whole = tokenizer.encode(text, control=True)
    cut = recut(tokenizer, whole, random.Random(seed))
    one, two = (parse(tokenizer, ids, thinking, stop=["STOP", "T\n"], tools=tools) for ids in (whole, cut))
    assert merged(one[1]) == merged(two[1])
    state = [(p.calls, p.stop_string, p.finish_reason, p.warnings, p.invalid_calls) for p, _ in (one, two)]
    assert state[0] == state[1]


@settings(max_examples=100)
@given(st.lists(MARKUP, max_size=8).map("".join), st.booleans(), st.sampled_from([None, (), DECLARED]))
def test_nothing_the_model_wrote_is_lost(tokenizer: Tokenizer, text: str, thinking: bool, tools: Any) -> None:
    """Every letter of the input that is not a tag of a call that was read is in some event."""
    parser = Parser(tokenizer, thinking, tools=tools, new_id=counting_ids())
    events: list[Event] = []
    read: list[int] = []
    for id in tokenizer.encode(text, control=True):
        if not parser.done:
            events += parser.push(id)
            read.append(id)
    events = merged(events + parser.finish())
    shown = "".join(getattr(event, "text", "") for event in events)
    for word in ("語🙂", "word", "STOP"):
        assert shown.count(word) == tokenizer.decode(read).count(word)


def recut(tokenizer: Tokenizer, ids: list[int], choice: random.Random) -> list[int]:
    """The same text in other tokens: some plain tokens taken apart into their bytes."""
    out: list[int] = []
    for id in ids:
        if tokenizer.is_special(id) or choice.random() < 0.5:
            out.append(id)
        else:
            out += [BYTES[byte] for byte in tokenizer.token_bytes(id)]
    return out


BYTES: dict[int, int] = {}


@pytest.fixture(scope="module", autouse=True)
def byte_tokens(tokenizer: Tokenizer) -> None:
    for id in range(tokenizer.vocab_size):
        data = tokenizer.token_bytes(id)
        if len(data) == 1 and not tokenizer.is_special(id):
            BYTES[data[0]] = id
    assert len(BYTES) == 256
