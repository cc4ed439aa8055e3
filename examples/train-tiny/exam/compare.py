# ruff: noqa: E501  (a line of a table)
"""Whether one file may take another's place: every exam for both, set by set, and the rule.

The rule: no set falls by more than two points, and the free prompts improve. One case of forty is 2.5 points, so a
set that seems to fall is asked four times as many cases, of both files, and those count. Beside each fall stands how
often two equal files would show it by chance. All seeds are fixed.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from quality_tasks import FAMILIES, Case, cases, transcript  # noqa: E402
from quality_tasks.case import Answer  # noqa: E402

from exam import free, needles, tasks  # noqa: E402
from exam.pupil import Pupil  # noqa: E402

FALL = 0.02
"""How much a set may fall: two points."""
NOISE = 0.05
"""A fall that chance makes more often than this is named and does not count as one beyond it."""
MORE = 4
"""How many times as many cases a set gets that seems to fall."""
QUALITY_SEED = 20_250
SLOW = ("needle", "mostly", "sections")
"""Sets of long texts, which get half as many cases."""
FREE = "free prompts"
Rights = list[bool]
_pupil: Pupil | None = None


@dataclass(frozen=True)
class Set:
    """A set of cases: `kind` is quality, tasks or free."""

    kind: str
    name: str
    cases: int

    @property
    def title(self) -> str:
        """The set's name in the table."""
        return f"{self.kind}: {self.name}" if self.kind != "free" else FREE


def compare(old: Path, new: Path, count: int, only: list[str] | None = None) -> dict[str, Any]:
    """The report: by set the shares of both files, what was lost and gained, the falls, and whether `new` may ship."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # two processes, one core each
    started = time.time()
    with _desk(old) as first, _desk(new) as second:
        desks = (first, second)
        rights = {one: collect(asked) for one, asked in {one: submit(desks, one, 0, one.cases) for one in sets(count, only)}.items()}
        again = [one for one, both in rights.items() if row(*both)["change"] < -FALL and one.kind != "free"]
        more = {one: submit(desks, one, one.cases, MORE * one.cases) for one in again}
        for one, asked in more.items():
            rights[one] = [known + new for known, new in zip(rights[one], collect(asked), strict=True)]
    table = {one: row(*both) for one, both in rights.items()}
    return verdict({one.title: found for one, found in table.items()}) | {"seconds": round(time.time() - started)}


def submit(desks: tuple[ProcessPoolExecutor, ...], one: Set, start: int, end: int) -> list[Future[Rights]]:
    """Ask both models the same cases."""
    return [desk.submit(ask, one, start, end) for desk in desks]


def collect(asked: list[Future[Rights]]) -> list[Rights]:
    """What both got right."""
    return [future.result() for future in asked]


def _desk(model: Path) -> ProcessPoolExecutor:
    """A process that has one model."""
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_sit_down, initargs=(model,))


def _sit_down(model: Path) -> None:
    global _pupil
    _pupil = Pupil(model)


def sets(count: int, only: list[str] | None = None) -> Iterator[Set]:
    """All sets, or those whose title holds one of the words."""
    every = [*(Set("quality", name, count if "needle" not in name else count // 2) for name in FAMILIES),
             *(Set("tasks", name, count // 2 if name.startswith(SLOW) else count) for name in tasks.SETS),
             Set("tasks", "needle 8,000", max(2, count // 4)), Set("free", "all", len(free.cases()))]  # fmt: skip
    return (one for one in every if not only or any(word in one.title for word in only))


def ask(one: Set, start: int, end: int) -> Rights:
    """Which of a set's cases from `start` to `end` this process's model gets right."""
    assert _pupil
    if one.kind == "quality":
        return [says_right(_pupil, case) for case in cases(QUALITY_SEED, end)[one.name][start:]]
    if one.kind == "free":
        return [free.is_right(case["want"], _pupil.answer(free.request_of(case))) for case in free.cases()[start:end]]
    make = tasks.SETS.get(one.name) or tasks.needle_at(needles.DISTANCES["8k"])
    return tasks.rights(_pupil, one.name, make, start, end)


def says_right(pupil: Pupil, case: Case) -> bool:
    """Whether the greedy answer is right. If it is the reference word for word, one pass tells; else it is decoded."""
    if not case.request.thinking:
        prompt, reference = (pupil.tokenizer.encode(text, control=True) for text in transcript(case, pupil.dialect))
        best = pupil.likeliest([*prompt, *reference])
        if best[len(prompt) - 1 : -1] == reference:
            return True
    text, calls = pupil.answer(case.request)
    return case.right(Answer(text, tuple(calls)))


def row(old: Rights, new: Rights) -> dict[str, Any]:
    """One set: shares, their difference, and how many cases changed sides."""
    shares = [sum(rights) / len(rights) for rights in (old, new)]
    pairs = list(zip(old, new, strict=True))
    lost, gained = pairs.count((True, False)), pairs.count((False, True))
    return {
        "old": round(shares[0], 4), "new": round(shares[1], 4), "change": round(shares[1] - shares[0], 4),
        "cases": len(pairs), "lost": lost, "gained": gained, "chance": round(chance(lost, gained), 4),
    }  # fmt: skip


def chance(lost: int, gained: int) -> float:
    """How often so many or more of the cases that changed sides would be lost if either way were as likely."""
    changed = lost + gained
    return sum(math.comb(changed, k) for k in range(lost, changed + 1)) / 2**changed


def verdict(table: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The rule over a table; without free prompts in it, nothing ships."""
    falls = [title for title, found in table.items() if title != FREE and found["change"] < -FALL]
    better = FREE in table and table[FREE]["change"] > 0
    beyond = [title for title in falls if table[title]["chance"] < NOISE]
    return {"sets": table, "falls": falls, "falls beyond chance": beyond, "free prompts improve": better,
            "ship": better and not falls, "ship but for noise": better and not beyond}  # fmt: skip


def as_text(report: dict[str, Any]) -> str:
    """The report as a Markdown table and what follows from it."""
    lines = ["| set | old | new | cases | lost | gained | chance |", "| --- |" + " ---: |" * 6]
    for title, found in report["sets"].items():
        mark = f"**{title}**" if title in report["falls"] else title
        shares = f"{found['old']:.2f} | {found['new']:.2f}"
        lines.append(f"| {mark} | {shares} | {found['cases']} | {found['lost']} | {found['gained']} | {found['chance']:.2f} |")
    names = {key: ", ".join(report[key]) or "none" for key in ("falls", "falls beyond chance")}
    better = "improve" if report["free prompts improve"] else "do not improve"
    rule = "Ship it." if report["ship"] else "By the rule, keep the old one."
    lines += ["", f"Falls of more than two points: {names['falls']}. Of these beyond chance: {names['falls beyond chance']}.",
              f"The free prompts {better}. {rule} {report['seconds']} s."]  # fmt: skip
    return "\n".join(lines)
