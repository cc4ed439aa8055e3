"""What a recipe costs: task accuracy of a small chat model, and how far its probabilities move.

    python benchmarks/quality.py FOLDER --imatrix      # converts a checkpoint by every recipe, then questions each file
    python benchmarks/quality.py --model A.gguf B.gguf # questions these files; alone: the embedded ds4-tiny

The questions (`quality_tasks`) are of the kinds that ds4-tiny was trained on. The first file is the one that the
others are compared with. Everything is greedy and every seed is fixed: a second run gives the same table.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from quality_run import Examinee, Outcome, divergence, groups
from quality_tasks import Case, cases, transcript

from ds4_backend import catalog
from ds4_backend.convert.collect import collect
from ds4_backend.convert.converter import convert
from ds4_backend.convert.recipe import RECIPES

EXAM_SEED, IMATRIX_SEED = 20_250, 7
IMATRIX_CASES = 8
"""Conversations of each family in the text for the importance matrix."""
WEIGHED = ("q2", "q4")
"""Recipes whose encoders use an importance matrix."""
TOGETHER = 10
PROMPTS = 3
"""Cases of each family whose prompts count too: text that the model was not made to foresee, so it shows more."""

Outcomes = dict[str, list[Outcome]]


def main() -> None:
    """Converts if asked, questions, prints."""
    options = read_options()
    with tempfile.TemporaryDirectory(prefix="ds4-quality-") as folder:
        files = converted(options, Path(folder)) if options.checkpoint else named(options.model)
        exam = cases(options.seed, options.cases)
        report = compare(dict(files), exam)
    print(json.dumps(report, indent=2) if options.json else as_text(report))


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, help="a Hugging Face folder to convert")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=["f16", "q8", "q4", "q2"])
    parser.add_argument("--imatrix", action="store_true", help=f"{' and '.join(WEIGHED)} a second time, with imatrix")
    parser.add_argument("--model", nargs="+", default=[catalog.TINY], help="files to question if no folder is given")
    parser.add_argument("--dialect", default="0731", help="the checkpoint's prompt dialect")
    parser.add_argument("--cache-simulation", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--cases", type=int, default=20, help="questions of each family")
    parser.add_argument("--seed", type=int, default=EXAM_SEED)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.checkpoint and not (options.checkpoint / "tokenizer.json").exists():
        parser.error(
            f"{options.checkpoint} has no tokenizer.json, so no question can be asked; what a training left becomes a "
            "whole folder by examples/train-tiny/convert.py PARTS OUT.gguf --folder FOLDER"
        )
    return options


def named(models: list[str]) -> Iterator[tuple[str, Path]]:
    """The files given by name or path."""
    return ((Path(model).stem, catalog.resolve(model)) for model in models)


def converted(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path]]:
    """One file per recipe, and one more with an importance matrix where that is asked for and used."""
    chosen = {"dialect": options.dialect, "cache_simulation": options.cache_simulation}
    imatrix = None
    for recipe in options.recipes:
        yield recipe, convert(options.checkpoint, folder / f"{recipe}.gguf", recipe, **chosen).path
        say(f"converted: {recipe}")
        if options.imatrix and recipe in WEIGHED:
            imatrix = imatrix or importance(options, folder)
            out = folder / f"{recipe}-imatrix.gguf"
            yield f"{recipe} + imatrix", convert(options.checkpoint, out, recipe, imatrix=imatrix, **chosen).path
            say(f"converted: {recipe} + imatrix")


def importance(options: argparse.Namespace, folder: Path) -> Path:
    """An importance matrix of the f16 conversion, from conversations that the exam does not hold."""
    model, text, out = folder / "for-imatrix.gguf", folder / "conversations.txt", folder / "imatrix.dat"
    convert(options.checkpoint, model, "f16", dialect=options.dialect, cache_simulation=options.cache_simulation)
    drawn = cases(IMATRIX_SEED, IMATRIX_CASES).values()
    text.write_text("".join("".join(transcript(case, options.dialect)) for row in drawn for case in row), "utf-8")
    done = collect(model, text, out)
    say(f"imatrix: {done.tokens} tokens, {done.silent} of {done.experts} experts silent")
    return out


def compare(files: dict[str, Path], exam: dict[str, list[Case]]) -> dict[str, Any]:
    """Question every file; the first is the base of the divergences."""
    base: Outcomes | None = None
    report: dict[str, Any] = {}
    for name, path in files.items():
        examinee = Examinee(path)
        outcomes = question(examinee, exam)
        base = base or outcomes
        report[name] = {"bytes": examinee.nbytes, **accuracy(outcomes), **distance(base, outcomes)}
        say(f"questioned: {name}, mean {report[name]['mean']:.3f}")
    return report


def question(examinee: Examinee, exam: dict[str, list[Case]]) -> Outcomes:
    """The outcomes of every family."""
    outcomes: Outcomes = {}
    for family, row in exam.items():
        outcomes[family] = examinee.take(row[:PROMPTS], prompts=True)
        outcomes[family] += [outcome for part in groups(row[PROMPTS:], TOGETHER) for outcome in examinee.take(part)]
    return outcomes


def accuracy(outcomes: Outcomes) -> dict[str, Any]:
    """Share of right answers by family, and the mean of the families."""
    shares = {family: float(np.mean([outcome.right for outcome in row])) for family, row in outcomes.items()}
    return {"accuracy": shares, "mean": float(np.mean(list(shares.values())))}


def distance(base: Outcomes, outcomes: Outcomes) -> dict[str, float]:
    """Nats a token: NLL of the reference answers, KL(base || this) in them and in prompts; share of equal arg-maxes."""
    pairs = [(b, o) for family, row in outcomes.items() for b, o in zip(base[family], row, strict=True)]
    nll = np.concatenate([-o.logprobs[np.arange(len(o.ids)), o.ids] for _, o in pairs])
    prompt = np.concatenate([divergence(b.prompt, o.prompt) for b, o in pairs])
    return {
        "answer_tokens": len(nll),
        "prompt_tokens": len(prompt),
        "nll": float(nll.mean()),
        "kl": float(np.concatenate([divergence(b.logprobs, o.logprobs) for b, o in pairs]).mean()),
        "kl_prompts": float(prompt.mean()),
        "same": float(np.concatenate([b.logprobs.argmax(1) == o.logprobs.argmax(1) for b, o in pairs]).mean()),
    }


def as_text(report: dict[str, Any]) -> str:
    """A Markdown table: families down, files across."""
    first = next(iter(report.values()))
    lines = [row("", report), row("---", ["---:"] * len(report))]
    lines += [row(f, [f"{r['accuracy'][f]:.2f}" for r in report.values()]) for f in first["accuracy"]]
    lines += [
        row("**mean**", [f"**{r['mean']:.3f}**" for r in report.values()]),
        row("NLL of the reference answers, nats a token", [f"{r['nll']:.4f}" for r in report.values()]),
        row("KL from the first column, answers", [f"{r['kl']:.5f}" for r in report.values()]),
        row("KL from the first column, prompts", [f"{r['kl_prompts']:.5f}" for r in report.values()]),
        row("same likeliest token, answers", [f"{r['same']:.2%}" for r in report.values()]),
        row("file, MB", [f"{r['bytes'] / 1e6:.1f}" for r in report.values()]),
    ]
    return "\n".join(lines)


def row(head: str, cells: Any) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join((head, *cells))} |"


def say(line: str) -> None:
    """Progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
