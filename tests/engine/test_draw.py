from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from grammar_sampling import tiny_tokenizer

from ds4_backend.chat import Parser
from ds4_backend.engine.draw import Drawer, drawer_for
from ds4_backend.engine.sampler import Sampler
from ds4_backend.errors import EngineError, RequestError
from ds4_backend.tokenizer import DSML, THINK_END, Tokenizer
from ds4_backend.types import JsonObject, JsonSchema, Message, Request, Sampling, Tool

QUESTION = (Message("user", "Hi"),)
WEATHER = Tool(
    "get_weather",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
NOW = Tool("now")
GREEDY = Sampling(temperature=0)


def drawer(thinking: bool = False, budget: int = 1000, **asked: Any) -> Drawer:
    asked.setdefault("sampling", GREEDY)
    return drawer_for(Request(QUESTION, **asked), thinking, tiny_tokenizer(), budget=budget)


def row(*likely: str | int) -> np.ndarray:
    """Logits that like the given tokens best, the first one most; every other token is at 0."""
    tokenizer = tiny_tokenizer()
    logits = np.zeros(tokenizer.vocab_size, np.float32)
    for rank, text in enumerate(likely):
        logits[text if isinstance(text, int) else tokenizer.token_id(text)] = 10 - rank
    return logits


def eos_row() -> np.ndarray:
    return row(tiny_tokenizer().eos)


def text_of(*tokens: int) -> str:
    return tiny_tokenizer().decode(tokens)


def written(chooser: Drawer, text: str) -> list[int]:
    """The answer of a model that would write `text`, token by token, wherever the drawer leaves it the choice."""
    tokenizer = tiny_tokenizer()
    wish, out = tokenizer.encode(text, control=True), []
    while not chooser.done:
        at = len(out)
        assert at < 200
        drawn = chooser.next(row(wish[at] if out == wish[:at] and at < len(wish) else tokenizer.eos)).tokens
        if drawn[0] == tokenizer.eos:
            break
        out += drawn
    return out


def test_the_best_token_is_taken_at_temperature_zero():
    assert text_of(*drawer().next(row("b", "a")).tokens) == "b"


def test_the_end_token_is_drawn_like_any_other():
    assert drawer().next(eos_row()).tokens == (tiny_tokenizer().eos,)


def test_free_text_in_greedy_mode_costs_nothing_but_the_maximum(monkeypatch):
    """With tools that may be called, the row is neither copied nor masked."""
    seen = []
    pick = Sampler.pick
    monkeypatch.setattr(Sampler, "pick", lambda self, *args: seen.append(args) or pick(self, *args))
    logits = row("b")
    drawer(tools=(WEATHER,)).next(logits)
    assert seen[0][0] is logits and seen[0][1] is None


def test_a_bias_can_make_a_token_certain_and_impossible():
    tokenizer = tiny_tokenizer()
    a, b = tokenizer.token_id("a"), tokenizer.token_id("b")
    assert drawer(sampling=Sampling(temperature=0, logit_bias={a: 100})).next(row("b")).tokens == (a,)
    assert drawer(sampling=Sampling(temperature=0, logit_bias={b: -100})).next(row("b", "a")).tokens == (a,)


def test_penalties_count_the_tokens_of_the_answer():
    chooser = drawer(sampling=Sampling(temperature=0, presence_penalty=0.5, frequency_penalty=0.2))
    logits = row("a", "b", "c")  # 10, 9, 8
    drawn = "".join(text_of(*chooser.next(logits).tokens) for _ in range(7))
    # a loses 0.5 + 0.2 n: 9.3, 9.1, 8.9 (below b), then b: 8.3 (below a), a: 8.7, 8.5, 8.3
    assert drawn == "aaabaaa"


def test_a_penalty_may_also_reward():
    chooser = drawer(sampling=Sampling(temperature=0, presence_penalty=-2))
    first = chooser.next(row("b", "a")).tokens
    assert text_of(*first) == "b"
    assert text_of(*chooser.next(row("a", "b")).tokens) == "b"


def test_biases_act_before_the_grammar():
    tokenizer = tiny_tokenizer()
    x, two = tokenizer.token_id("x"), tokenizer.token_id("2")
    chooser = drawer(
        sampling=Sampling(temperature=0, logit_bias={x: 100, two: 50}),
        response_format=JsonSchema({"enum": [1, 2, 3]}),
    )
    assert chooser.next(row("1")).tokens == (two,)


@pytest.mark.parametrize("asked", [{}, {"tools": (WEATHER,), "tool_choice": "none"}, {"response_format": JsonObject()}])
def test_without_tools_to_call_no_call_can_begin(asked):
    tokenizer = tiny_tokenizer()
    dsml = tokenizer.token_id(DSML)
    assert drawer(**asked).next(row(dsml)).tokens[0] != dsml
    assert drawer(thinking=True, **asked).next(row(dsml)).tokens[0] != dsml


def test_in_auto_the_text_is_free_and_a_begun_call_is_held():
    chooser = drawer(tools=(WEATHER, NOW), parallel_tool_calls=False)
    ids = written(chooser, 'Let me see.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="now">never')
    assert text_of(*ids) == (
        'Let me see.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="now">\n\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>'
    )
    assert chooser.done


def test_in_auto_a_call_may_come_after_the_thinking():
    chooser = drawer(thinking=True, tools=(NOW,), parallel_tool_calls=False)
    ids = written(chooser, "Hm <｜DSML｜.</think>Look:\n\n<｜DSML｜")
    assert text_of(*ids).startswith('Hm <｜DSML｜.</think>Look:\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="now">')


def test_a_required_call_is_forced_from_the_first_token_on():
    drawn = drawer(tools=(WEATHER,), tool_choice="required").next(row("x"))
    forced = '\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" string="'
    assert text_of(*drawn.tokens).startswith(forced)


def test_a_required_call_comes_after_the_thinking_and_is_fed_in_one_pass():
    chooser = drawer(thinking=True, tools=(NOW,), tool_choice="now", parallel_tool_calls=False)
    assert text_of(*chooser.next(row("x")).tokens) == "x"
    (close, *forced) = chooser.next(row(THINK_END)).tokens
    assert close == tiny_tokenizer().token_id(THINK_END)
    parser = Parser(tiny_tokenizer(), False)
    for token in forced:
        parser.push(token)
    assert chooser.done and [call.name for call in parser.calls] == ["now"]


def test_forced_tokens_stop_at_the_budget():
    assert len(drawer(tools=(NOW,), tool_choice="required", budget=7).next(row("x")).tokens) == 7
    chooser = drawer(thinking=True, tools=(NOW,), tool_choice="required", budget=3)
    assert len(chooser.next(row(THINK_END)).tokens) == 3


def test_one_call_or_several():
    one = drawer(tools=(NOW,), tool_choice="required", parallel_tool_calls=False)
    assert one.next(row("x")).tokens and one.done
    several = drawer(tools=(NOW,), tool_choice="required")
    several.next(row("x"))
    assert not several.done


def test_tools_and_a_format_leave_the_choice():
    schema = JsonSchema({"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]})
    both = {"tools": (NOW,), "response_format": schema, "parallel_tool_calls": False}
    assert text_of(*written(drawer(**both), '{"a": 2}')) == '{"a": 2}'
    assert "invoke" in text_of(*written(drawer(**both), "\n\n<｜DSML｜"))
    assert "invoke" in text_of(*written(drawer(**both, tool_choice="required"), '{"a": 2}'))
    assert text_of(*written(drawer(**both, tool_choice="none"), '{"a": 2}')) == '{"a": 2}'


def test_a_format_holds_after_the_thinking_only():
    chooser = drawer(thinking=True, response_format=JsonSchema({"enum": ["yes", "no"]}))
    assert text_of(*written(chooser, 'So: no.</think>"no"')) == 'So: no.</think>"no"'


def test_a_begun_answer_goes_on_under_its_format():
    begun = (*QUESTION, Message("assistant", '{"na', prefix=True))
    schema = {"properties": {"name": {"const": "x"}}, "required": ["name"], "additionalProperties": False}
    request = Request(begun, response_format=JsonSchema({"type": "object"} | schema), sampling=GREEDY)
    rest = written(drawer_for(request, False, tiny_tokenizer(), budget=50), "}")
    assert json.loads('{"na' + text_of(*rest)) == {"name": "x"}


def test_a_begun_answer_that_does_not_fit_its_format_is_refused():
    request = Request((*QUESTION, Message("assistant", "Well: ", prefix=True)), response_format=JsonObject())
    with pytest.raises(RequestError, match="cannot go on from 'Well: '"):
        drawer_for(request, False, tiny_tokenizer(), budget=50)


def test_logprobs_are_those_of_the_plain_softmax():
    tokenizer = tiny_tokenizer()
    logits = np.random.default_rng(0).normal(scale=3, size=tokenizer.vocab_size).astype(np.float32)
    a = tokenizer.token_id("a")
    chooser = drawer(sampling=Sampling(temperature=0, logit_bias={a: 100}), logprobs=3)
    drawn = chooser.next(logits)
    (logprob,) = drawn.logprobs
    exact = logits.astype(np.float64) - math.log(np.exp(logits.astype(np.float64)).sum())
    assert drawn.tokens == (a,) and (logprob.token.id, logprob.token.bytes) == (a, b"a")
    assert logprob.token.logprob == pytest.approx(exact[a], abs=1e-6)
    assert [top.id for top in logprob.top] == np.argsort(-exact)[:3].tolist()
    assert [top.logprob for top in logprob.top] == pytest.approx(np.sort(exact)[::-1][:3].tolist(), abs=1e-6)


def test_forced_tokens_have_logprobs_too():
    drawn = drawer(tools=(NOW,), tool_choice="required", logprobs=2).next(row("x"))
    assert [entry.token.id for entry in drawn.logprobs] == list(drawn.tokens)
    assert drawn.logprobs[0].token.logprob < -1 and len(drawn.logprobs[0].top) == 2
    assert {(entry.token.logprob, entry.top) for entry in drawn.logprobs[1:]} == {(0.0, ())}


def test_logprobs_without_alternatives_and_none_at_all():
    assert drawer(logprobs=0).next(row("b")).logprobs[0].top == ()
    assert drawer().next(row("b")).logprobs == ()


def test_a_seed_fixes_the_answer():
    def answer(seed: int) -> list[int]:
        rng = np.random.default_rng(0)
        rows = [rng.normal(size=tiny_tokenizer().vocab_size).astype(np.float32) for _ in range(20)]
        chooser = drawer(sampling=Sampling(seed=seed), response_format=JsonObject())
        return [token for logits in rows for token in (chooser.next(logits).tokens if not chooser.done else ())]

    assert answer(1) == answer(1) != answer(2)


def test_the_thinking_is_closed_with_its_special_token():
    chooser = drawer(thinking=True, max_thinking_tokens=0)
    assert chooser.next(row("x")).tokens == (tiny_tokenizer().token_id(THINK_END),)
    assert text_of(*chooser.next(row("x")).tokens) == "x"
    assert chooser.thinking_cut and chooser.thinking.closes_at == 0


def test_thinking_that_ends_in_time_is_not_cut():
    chooser = drawer(thinking=True, max_thinking_tokens=10)
    chooser.next(row(THINK_END))
    assert not chooser.thinking_cut and chooser.thinking.spent == 0


def test_a_forced_call_follows_thinking_that_was_cut():
    chooser = drawer(thinking=True, tools=(NOW,), tool_choice="required", max_thinking_tokens=1, budget=400)
    ids: list[int] = []
    while len(ids) < 19:
        ids += chooser.next(row(*"xyzw")).tokens
    assert text_of(*ids).startswith("x" * 17 + "</think>\n\n<｜DSML｜tool_calls>")


@pytest.mark.parametrize(
    "asked, said",
    [
        ({"n": 2}, "n is 2; .*one answer"),
        ({"logprobs": 21}, "logprobs is 21; it must be an integer, 0 to 20"),
        ({"logprobs": True}, "logprobs is True"),
        ({"max_thinking_tokens": -1}, "max_thinking_tokens is -1"),
        ({"sampling": Sampling(presence_penalty=2.1)}, "presence_penalty is 2.1; it must be a number, -2 to 2"),
        ({"sampling": Sampling(frequency_penalty=-3)}, "frequency_penalty is -3"),
        ({"sampling": Sampling(logit_bias={5000: 1})}, "logit_bias names token 5000; .* 0 to 4095"),
        ({"sampling": Sampling(logit_bias={"5": 1})}, "logit_bias names token '5'"),  # type: ignore[dict-item]
        ({"sampling": Sampling(logit_bias={5: 101})}, "logit_bias of token 5 is 101; it must be a number, -100 to 100"),
        ({"sampling": Sampling(logit_bias={5: float("nan")})}, "logit_bias of token 5 is nan"),
        ({"tool_choice": "required"}, "tool_choice is 'required' and no tools are declared"),
        ({"tool_choice": "now"}, "tool_choice is 'now' and no tools are declared"),
        ({"tool_choice": "later", "tools": (NOW, WEATHER)}, "'later', .*declared are: now, get_weather"),
        ({"tools": (NOW, NOW)}, "'now' is declared more than once"),
        ({"response_format": JsonSchema({"not": {}})}, "cannot be held"),
    ],
)
def test_what_cannot_be_served_is_refused_before_anything_is_generated(asked, said):
    with pytest.raises(RequestError, match=said):
        drawer(**asked)


def test_logits_of_another_vocabulary_are_refused():
    with pytest.raises(EngineError, match="7 logits do not fit a vocabulary of 4096"):
        drawer().next(np.zeros(7, np.float32))


def test_the_same_tools_are_compiled_once(monkeypatch):
    from ds4_backend.engine.grammar import recent

    compiled = []
    compile_constraint = recent.compile_constraint
    monkeypatch.setattr(recent, "compile_constraint", lambda *args: compiled.append(args) or compile_constraint(*args))
    once = Tool("once", parameters={"properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}})
    turned = Tool("once", parameters={"properties": {"b": {"type": "integer"}, "a": {"type": "integer"}}})
    drawer(tools=(once,)), drawer(tools=(once,)), drawer(thinking=True, tools=(once,))
    assert len(compiled) == 1
    drawer(tools=(turned,))
    assert len(compiled) == 2  # another order of the arguments is another grammar


def test_a_tokenizer_that_is_gone_takes_its_grammars_with_it():
    import weakref

    from engine_fakes import byte_tokenizer

    tokenizer: Tokenizer | None = byte_tokenizer()
    drawer_for(Request(QUESTION, response_format=JsonObject()), False, tokenizer, budget=5)
    gone = weakref.ref(tokenizer)
    tokenizer = None
    assert gone() is None
