# ruff: noqa: E501  (a rule is one line)
"""What ds4-tiny is taught is true: samples of every family, checked by rules that the generator does not share."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers", reason="the generator's vocabulary needs the tokenizers package")
jsonschema = pytest.importorskip("jsonschema")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "train-tiny"
sys.path.insert(0, str(EXAMPLE))

from ds4_tiny import corpus, vocabulary, words  # noqa: E402
from ds4_tiny.batches import SPREAD_ROW, encode, pack  # noqa: E402
from ds4_tiny.chat import Talk, segments  # noqa: E402
from ds4_tiny.draw import Draw, held_out  # noqa: E402
from ds4_tiny.tasks import reading, records, skills, spread, tools  # noqa: E402

pytestmark = pytest.mark.slow
MANY = 400
QA = tuple[str, str, str]


def drawn(task: Callable[[Draw], QA], count: int = MANY) -> Iterator[QA]:
    d = Draw(f"truth of {task.__name__}")
    return (task(d) for _ in range(count))


def integers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", text)]


# Sums and letters


@pytest.mark.parametrize("task", [skills.addition, skills.subtraction, skills.product])
def test_sums_are_right_and_of_the_numbers_that_were_asked(task):
    signs = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}
    for question, thought, answer in drawn(task):
        a, sign, b, equals, value = answer.split()
        assert equals == "=" and signs[sign](int(a), int(b)) == int(value), answer
        assert sorted((int(a), int(b))) == sorted(integers(question)), (question, answer)
        steps = re.findall(r"(\d+) ([-+*]) (\d+)(?: ([-+]) 1)? = (-?\d+)( borrow)?", thought)
        for left, op, right, carried, result, borrowed in steps:
            found = signs[op](int(left), int(right)) + {"": 0, "+": 1, "-": -1}[carried]
            assert found + 10 * bool(borrowed) == int(result), thought


def test_carries_are_common():
    pairs = [skills.summands(Draw(seed)) for seed in range(MANY)]
    carried = [sum(int(x) + int(y) > 9 for x, y in zip(str(a)[::-1], str(b)[::-1], strict=False)) for a, b in pairs]
    assert sum(count >= 1 for count in carried) > MANY / 2
    assert sum(count >= 2 for count in carried) > MANY / 4


def test_stories_come_out_right():
    for question, _, answer in drawn(skills.word_problem):
        a, b = integers(question)
        assert integers(answer) == [a - b if "left" in question else a + b], (question, answer)


W = "([a-z]+)"
LETTER_RULES: tuple[tuple[str, Callable[..., str]], ...] = (
    (rf"(?:write|convert|make) {W}(?: in| to)? upper ?case|{W} in capital letters|uppercase {W}", str.upper),
    (rf"(?:write|convert|make) {W}(?: in| to)? lower ?case", str.lower),
    (rf"(?:write|spell) {W} backwards|reverse the word {W}|reverse {W}|{W} backwards", lambda w: w[::-1]),
    (rf"letter {W} occur in {W}|many {W}'s are in {W}|many {W}s are there in {W}|count the letter {W} in {W}|many {W} in {W}|number of {W}'s in {W}", lambda c, w: str(w.count(c))),
    (rf"how many letters does {W} have|how long is the word {W}|count the letters of {W}|how many letters are in {W}|the length of {W}", lambda w: str(len(w))),
    (rf"{W} letter by letter|spell {W} with spaces|(?<!count )the letters of {W}", " ".join),
    (rf"does {W} contain the letter {W}|does the word {W} have a {W}", lambda w, c: "yes" if c in w else "no"),
    (rf"is there a {W} in {W}", lambda c, w: "yes" if c in w else "no"),
    (rf"the first letter of {W}|does {W} start with|{W} begins with", lambda w: w[0]),
    (rf"the last letter of {W}|does {W} end with", lambda w: w[-1]),
    (rf"the {W} letter of {W}|letter is {W} in {W}", lambda place, w: w[words.ORDINALS.index(place)]),
    (rf"letter number (\d) of {W}", lambda place, w: w[int(place) - 1]),
    (rf"letter of {W} is the {W} one", lambda w, place: w[words.ORDINALS.index(place)]),
)  # fmt: skip


def test_letters_are_right():
    seen: Counter[str] = Counter()
    for question, _, answer in drawn(skills.letters, 1500):
        rule = next(((p, found) for p, _ in LETTER_RULES if (found := re.search(p, question, re.IGNORECASE))), None)
        if rule is None:
            word, count = (
                re.findall(r"(\S+) (two|three|four|five|\d) times", question)[0] if "times" in question else ("", "")
            )
            seen["times" if word else "spell"] += 1
            number = (
                int(count) if count.isdigit() else ["two", "three", "four", "five"].index(count) + 2 if count else 0
            )
            spelt = "-" in answer and answer.replace("-", "") in question.lower()
            assert answer == " ".join([word] * number) if word else spelt, (question, answer)
            continue
        seen[rule[0]] += 1
        captured = [group.lower() for group in rule[1].groups() if group]
        right = dict(LETTER_RULES)[rule[0]](*captured)
        allowed = {right, "-".join(captured[0])} if right == " ".join(captured[0]) else {right}
        assert answer in allowed, (question, answer, right)
    assert len(seen) == len(LETTER_RULES) + 2, seen


def test_yes_and_no_about_numbers_are_right():
    for question, _, answer in drawn(skills.numbers):
        n, *others = integers(question)
        if "prime" in question:
            assert (answer == "yes") == (n > 1 and all(n % k for k in range(2, n))), question
        elif "between" in question:
            assert (answer == "yes") == (min(others) <= n <= max(others)), question
        elif found := re.search(r"\b(even|odd)\b", question):
            assert (answer == "yes") == (n % 2 == (found[1] == "odd")), question
        else:
            assert int(answer) == n + (-1 if "before" in question else 1), question


def test_lists_are_right():
    seen: Counter[str] = Counter()
    for question, _, answer in drawn(skills.lists, 1000):
        low = question.lower()
        if re.search(r"\b(sort|order)\b", low) and ", " in answer:
            down = re.search("descending|large to small|largest first", low) is not None
            assert integers(answer) == sorted(integers(question), reverse=down), question
            seen["sort"] += 1
        elif found := re.search(
            r"(larger|bigger|greater|smaller|less)[,:] \d|the (largest|biggest|maximum|highest|smallest|minimum|lowest) (?:number|of)",
            low,
        ):
            least = (found[1] or found[2]) in ("smaller", "less", "smallest", "minimum", "lowest")
            assert int(answer) == (min if least else max)(integers(question)), question
            seen["compare"] += 1
        elif "count" not in low and "how many" not in low:
            assert answer in question, (question, answer)
            seen["place"] += 1
    assert set(seen) == {"sort", "compare", "place"}, seen


# What a text tells


def test_json_holds_the_values_of_the_text_under_the_keys_that_were_asked():
    for question, _, answer in drawn(records.json_keys, 1500):
        for key, value in json.loads(answer).items():
            assert key in question, (question, answer)
            assert told(value, question), (question, key, value)


def test_json_by_a_schema_fits_the_schema_and_the_text():
    d = Draw("truth of schemas")
    for _ in range(MANY):
        talk = records.json_schema(d)
        asked, value = talk.turns[0].text, json.loads(talk.turns[-1].text)
        schema = talk.schema or json.JSONDecoder().raw_decode(asked[asked.index('{"') :])[0]
        jsonschema.validate(value, schema)
        assert sorted(value) == sorted(schema["properties"])
        assert all(told(one, asked) for one in value.values()), (asked, value)


def told(value: Any, text: str) -> bool:
    if isinstance(value, bool):
        return ("yes" if value else "no") in text
    return all(one in text for one in value) if isinstance(value, list) else str(value) in text


def test_facts_stand_in_their_text_and_answer_for_who_was_asked():
    absent = 0
    for question, thought, answer in drawn(reading.facts, 1500):
        if answer == reading.ABSENT:
            absent += 1
            continue
        assert question.count(answer) >= 1 and answer == thought, (question, answer)
    assert 0.03 < absent / 1500 < 0.2


def test_needles_stand_in_their_document_once_for_each_question():
    d = Draw("truth of needles")
    for _ in range(60):
        talk = reading.needles(d, d.int(200, 1500))
        text = talk.system + "".join(turn.text for turn in talk.turns if turn.role == "user")
        for turn in talk.turns:
            if turn.role == "assistant" and turn.text not in (reading.ABSENT, "OK, I have read it."):
                assert turn.text in text


def test_what_is_commonest_is_commonest(monkeypatch):
    placed: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(
        spread, "placed", lambda d, text, turns: placed.append((text, [turn.text for turn in turns[1::2]]))
    )
    d = Draw("truth of majorities")
    for _ in range(150):
        d.one((spread.majority, spread.mood))(d, d.int(100, 2000))
    lists = (spread.EVENTS, words.ANIMALS, words.COLORS, words.NAMES, words.DAYS, words.FOODS)
    for text, answers in placed:
        if "reviews" in text or any(word in answers[0] for word in ("positive", "negative")):
            found = Counter(
                {mood: counted(text, of).total() for mood, of in (("positive", words.GOOD), ("negative", words.BAD))}
            )
        elif any(f" {topic}." in answer for answer in answers for topic in words.TOPICS):
            found = topics_of(text)
        else:
            named = [
                word for of in lists for word in of if all(re.search(rf"\b{word}\b", answer) for answer in answers)
            ]
            group = next(of for of in lists if named[0] in of)
            found = counted(text, group)
        (most, times), *others = found.most_common(2)
        assert all(most in answer for answer in answers), (answers, found)
        assert not others or times > others[0][1], (answers, found)


def counted(text: str, names: Sequence[str]) -> Counter[str]:
    return Counter({name: len(re.findall(rf"\b{name}\b", text)) for name in names})


def topics_of(text: str) -> Counter[str]:
    return Counter({name: sum(counted(text, things).values()) for name, things in words.TOPICS.items()})


def test_parts_and_sections_are_about_what_is_said():
    d = Draw("truth of parts")
    for _ in range(60):
        talk = spread.sections(d, d.int(400, 3000))
        text = talk.system + " ".join(turn.text for turn in talk.turns)
        for turn in talk.turns:
            if found := re.fullmatch(r"((\w+) (\d+)) is about (\w+)\.", turn.text):
                begin = text.index(f"{found[1]}. ")
                section = text[begin : text.find(f"{found[2]} {int(found[3]) + 1}. ", begin)]
                counts = topics_of(section.partition("\n\n")[0])
                assert counts[found[4]] == max(counts.values()), (turn.text, counts)


# Tools


def test_calls_are_of_declared_tools_and_their_arguments_fit_and_were_said():
    d = Draw("truth of calls")
    for mode in tools.MODES:
        for _ in range(250):
            talk = tools.tools(d, mode)
            declared = {tool["name"]: tool["parameters"] for tool in talk.tools}
            text = ""
            for turn in talk.turns:
                for name, arguments in turn.calls:
                    jsonschema.validate(arguments, declared[name])
                    joke = any("sit on the computer" in str(value) for value in arguments.values())  # made up
                    assert joke or all(said(value, text) for value in arguments.values()), (arguments, text)
                text += turn.text


def said(value: Any, text: str) -> bool:
    if isinstance(value, bool):
        return True  # on, yes, true
    if isinstance(value, list):
        return all(said(one, text) for one in value)
    return str(value) in text or json.dumps(value, ensure_ascii=False) in text  # requests may quote as programs do


def test_answers_in_a_form_fit_it_and_what_the_tool_returned():
    d = Draw("truth of forms")
    for _ in range(MANY):
        talk = tools.called_by_format(d)
        values, text = json.loads(talk.turns[-1].text), " ".join(turn.text for turn in talk.turns[:-1])
        jsonschema.validate(values, talk.schema)
        if len(talk.turns) > 2 and not set(values) & set(tools.REPORTED):
            assert all(told(value, text) for value in values.values()), (values, text)


def test_parallel_calls_are_several_and_run_together_without_full_stops_too():
    d = Draw("truth of parallel calls")
    talks = [tools.tools(d, "parallel", 2) for _ in range(MANY)]
    several = [talk for talk in talks if len(talk.turns[1].calls) > 1]
    assert len(several) > 0.9 * MANY
    assert sum(not re.search(r"[.?!;:]", talk.turns[0].text[:-1]) for talk in several) > 0.2 * MANY


def test_where_no_tool_is_needed_sorting_and_sums_are_done_too():
    d = Draw("truth of no call")
    answers = [tools.tools(d, "none", 1).turns[1] for _ in range(MANY)]
    assert not any(turn.calls for turn in answers)
    assert any(re.fullmatch(r"\d+(, \d+)+", turn.text) for turn in answers)
    assert any(re.fullmatch(r"\d+ [+*] \d+ = \d+", turn.text) for turn in answers)


# The mixture


def test_the_mixture_is_what_the_page_says():
    page = (EXAMPLE / "README.md").read_text("utf-8")
    shares = {"tools": "tools", "one question": "one", "several": "several", "documents": "needles", "whole texts": "spread",
              "a laid-down form": "schema", "long repeats": "repeat"}  # fmt: skip
    for words_, kind in shares.items():
        found = re.search(rf"{words_} (\d+) %", page)
        assert found and int(found[1]) == round(100 * corpus.KINDS[kind] / sum(corpus.KINDS.values())), words_


def test_the_exams_free_prompts_are_not_taught():
    d = Draw("kept apart")
    asked = {turn.text for _ in range(3_000) for turn in corpus.talk(d, kind="one").turns if turn.role == "user"}
    assert len(corpus.free_prompts()) >= 200 and not asked & corpus.free_prompts()


def test_no_held_out_word_is_taught():
    written = {
        word
        for path in (EXAMPLE / "ds4_tiny").rglob("*.py")
        for word in re.findall("[a-z]+", path.read_text("utf-8").lower())
    }
    hidden = {word for word in words.COMMON if held_out(word)} - written
    d, seen = Draw("held out"), Counter[str]()
    for _ in range(2000):
        for turn in corpus.talk(d).turns:
            seen.update(hidden.intersection(re.findall("[a-z]+", turn.text)))
    assert len(hidden) > 100
    assert seen.total() < 5, seen  # two pieces of the vocabulary may happen to make one


@pytest.mark.parametrize("kind", corpus.KINDS)
def test_every_kind_survives_the_tokenizer(kind):
    tokenizer, d = vocabulary.load(), Draw(f"tokens of {kind}")
    for _ in range(40):
        talk: Talk = corpus.talk(d, kind=kind)
        ids, kinds = encode(tokenizer, talk)
        assert not any("\0" in text for text, _ in segments(talk))
        assert tokenizer.decode(ids, skip_special_tokens=False) == "".join(text for text, _ in segments(talk))
        assert len(ids) == len(kinds) and 2 in kinds


@pytest.mark.parametrize("length", [1024, SPREAD_ROW, 4096, 8192])
def test_long_conversations_fit_their_rows(length):
    tokenizer, d, cut = vocabulary.load(), Draw(f"rows of {length}"), 0
    for _ in range(6):
        ids, kinds = pack(tokenizer, d, length, 1)
        assert ids.shape == kinds.shape == (1, length + 1)
        starts = [int(i) for i in (ids[0] == 0).nonzero()[0]]
        cut += len(starts) == 1 and kinds[0, -1] != 0 and ids[0, -1] != 1
    assert cut <= 1
