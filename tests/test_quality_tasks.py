"""The quality benchmark: questions with known answers, judges that read values, and numbers that mean what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from quality_run import Examinee, answer_of, divergence, log_softmax  # noqa: E402
from quality_tasks import FAMILIES, Answer, cases, grading, transcript  # noqa: E402
from quality_tasks.case import answer_of as said  # noqa: E402

from ds4_backend.catalog import TINY, resolve  # noqa: E402
from ds4_backend.connect import connect  # noqa: E402
from ds4_backend.types import Sampling  # noqa: E402

DRAWN = cases(3, 6)


@pytest.fixture(scope="module")
def examinee():
    return Examinee(resolve(TINY))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_answer_is_right_and_silence_is_wrong(family):
    assert len(DRAWN[family]) == 6
    for case in DRAWN[family]:
        assert case.right(said(case.reference)), case
        assert not case.right(Answer(""))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_answer_to_another_question_is_wrong_unless_it_holds_the_same_value(family):
    pairs = [(case, other) for case in DRAWN[family] for other in DRAWN[family] if other.reference != case.reference]
    accepted = [other.reference for case, other in pairs if case.right(said(other.reference))]
    assert len(pairs) >= 20 and len(accepted) <= 2, accepted


def test_a_seed_gives_the_same_questions_and_another_seed_other_ones():
    def prompts(seed: int) -> list[str]:
        return [repr(case.request) for row in cases(seed, 3).values() for case in row]

    assert prompts(1) == prompts(1)
    assert len(set(prompts(1)) & set(prompts(2))) < 4


def test_no_question_is_asked_twice():
    for row in cases(5, 20).values():
        assert len({repr(case.request) for case in row}) == len(row) == 20


@pytest.mark.parametrize("family", FAMILIES)
def test_a_transcript_is_the_prompt_and_the_answer_with_its_end(family):
    for case in DRAWN[family]:
        prompt, answer = transcript(case, "0731")
        assert prompt.endswith("<｜Assistant｜></think>")
        assert answer.endswith("<｜end▁of▁sentence｜>") and answer.count("<｜end▁of▁sentence｜>") == 1
        assert case.reference.content in answer


def test_judges_read_values_not_wording():
    assert grading.number(42)(Answer("12 + 30 = 42")) and grading.number(42)(Answer("It is 42."))
    assert not grading.number(42)(Answer("42 - 1 = 41"))
    assert grading.numbers([1, 2])(Answer("sorted: 1, 2")) and not grading.numbers([1, 2])(Answer("2, 1"))
    assert grading.value("Rome", ["Rome", "Oslo"])(Answer("She lives in rome."))
    assert not grading.value("Rome", ["Oslo"])(Answer("Rome or Oslo"))
    assert not grading.value("12")(Answer("123"))
    assert grading.same_text("a b")(Answer("a  b\n")) and not grading.same_text("a b")(Answer("a b c"))
    assert grading.json_object({"a": 1, "b": "x"})(Answer('{"b": "x", "a": 1}'))
    assert not grading.json_object({"a": 1})(Answer('{"a": "1"}')) and not grading.json_object({"a": 1})(Answer("{"))


def test_calls_are_compared_as_json_in_any_order():
    right = grading.calls(("add", {"a": 1, "b": 2}), ("get", {"city": "Rome"}))
    add, get = ("add", '{"b":2,"a":1}'), ("get", '{"city": "Rome"}')
    assert right(Answer("", (add, get))) and right(Answer("", (get, add)))
    assert not right(Answer("", (add,))) and not right(Answer("", (add, add)))
    assert not right(Answer("", (get, ("add", '{"a":"1","b":2}'))))
    assert not grading.number(3)(Answer("3", (add,)))


def test_a_text_answer_with_a_call_beside_it_is_wrong():
    for case in DRAWN["tools, none needed"]:
        assert not case.right(replace(said(case.reference), calls=(("get_weather", "{}"),)))


def test_divergence_is_zero_from_itself_and_known_for_two_coins():
    fair, bent = (np.log(np.array([p], np.float32)) for p in ((0.5, 0.5), (0.9, 0.1)))
    assert divergence(fair, fair) == pytest.approx([0.0], abs=1e-7)
    assert divergence(bent, fair) == pytest.approx([0.9 * np.log(1.8) + 0.1 * np.log(0.2)], rel=1e-5)


def test_log_softmax_survives_large_logits():
    found = log_softmax(np.array([[1000.0, 1000.0, -1000.0]], np.float32))
    assert found[0, :2] == pytest.approx(np.log([0.5, 0.5]), rel=1e-5) and np.isfinite(found).all()


@pytest.mark.slow
def test_answers_made_side_by_side_are_those_of_the_engine(examinee):
    families = ("sums, thinking", "JSON, named keys", "two parallel calls")
    asked = [case for family in families for case in DRAWN[family][:2]]
    outcomes = examinee.take(asked)
    engine = connect(TINY)
    for case, outcome in zip(asked, outcomes, strict=True):
        request = replace(case.request, sampling=Sampling(temperature=0), max_tokens=256)
        assert outcome.answer == answer_of(list(engine.chat(request)))
    assert sum(outcome.right for outcome in outcomes) >= 5


def test_the_reference_answers_are_likely_to_the_embedded_model(examinee):
    outcome = examinee.take(DRAWN["products"][:1])[0]
    nll = -outcome.logprobs[np.arange(len(outcome.ids)), outcome.ids]
    assert len(nll) > 5 and nll.mean() < 0.1
    assert len(outcome.prompt) == 0


def test_what_is_expected_inside_a_prompt_is_kept_on_request(examinee):
    case = DRAWN["sums, thinking"][0]
    outcome = examinee.take([case], prompts=True)[0]
    request = replace(case.request, sampling=Sampling(temperature=0))
    assert len(outcome.prompt) == connect(TINY).count_tokens(request) - 1
    assert np.exp(outcome.prompt).sum(axis=1) == pytest.approx(1, rel=1e-4)
    assert len(outcome.ids) == len(outcome.logprobs) == 0


@pytest.mark.slow
def test_the_benchmark_prints_accuracy_and_distances_of_a_file():
    command = [sys.executable, "benchmarks/quality.py", "--cases", "1", "--json", "--model", TINY]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)[TINY]
    assert set(report["accuracy"]) == set(FAMILIES) and report["mean"] > 0.7
    assert report["kl"] == pytest.approx(0, abs=1e-6) and report["same"] == 1
    assert report["kl_prompts"] == pytest.approx(0, abs=1e-6) and report["prompt_tokens"] > 2000
    assert 0 < report["nll"] < 0.5 and report["bytes"] == resolve(TINY).stat().st_size
