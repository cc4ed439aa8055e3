"""Put a ds4-tiny GGUF file through its exams on this machine's CPU, with the project's own engine.

    python examples/train-tiny/evaluate.py tasks  MODEL.gguf ...     # 28 held-out task sets, exact match
    python examples/train-tiny/evaluate.py free   MODEL.gguf ...     # 200 prompts written by hand before the training
    python examples/train-tiny/evaluate.py needle MODEL.gguf ...     # facts at 1k, 4k, 8k, 16k tokens
    python examples/train-tiny/evaluate.py ablate MODEL.gguf         # without compressed rows, with a random indexer
    python examples/train-tiny/evaluate.py compare OLD.gguf NEW.gguf # every set of both, and whether NEW may ship

Everything is greedy and every seed is fixed. The tables are Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from exam.ablate import VARIANTS, ablation  # noqa: E402
from exam.compare import as_text, compare  # noqa: E402
from exam.free import free_prompts  # noqa: E402
from exam.needles import needles  # noqa: E402
from exam.pupil import Pupil  # noqa: E402
from exam.tasks import task_sets  # noqa: E402

Scores = dict[str, float]


def main() -> None:
    """Run one exam and print its table."""
    options = read_options()
    exams: dict[str, Callable[[Pupil], Scores]] = {
        "tasks": lambda pupil: task_sets(pupil, options.cases, options.only),
        "free": lambda pupil: free_prompts(pupil, options.wrong),
        "needle": lambda pupil: needles(pupil, options.cases),
    }
    if options.exam == "compare":
        sys.exit(decide(options))
    columns: dict[str, Scores] = {}
    if options.exam == "ablate":
        for variant in VARIANTS:
            columns[variant] = ablation(Pupil(options.models[0], options.simulation), variant, options.cases)
            print(f"done: {variant}", file=sys.stderr, flush=True)
    else:
        for model in options.models:
            columns[model.stem] = exams[options.exam](Pupil(model, options.simulation))
            print(f"done: {model.stem}", file=sys.stderr, flush=True)
    print(json.dumps(columns, indent=1) if options.json else table(columns))


def decide(options: argparse.Namespace) -> int:
    """Compare two files; 0 if the second may take the place of the first."""
    if len(options.models) != 2:
        raise SystemExit(f"compare takes two files, the old one and the new one; here are {len(options.models)}")
    report = compare(*options.models, options.cases, options.only)
    print(json.dumps(report, indent=1) if options.json else as_text(report))
    return 0 if report["ship"] else 1


def table(columns: dict[str, Scores]) -> str:
    """Task sets down, columns across, the mean last."""
    rows = [f"| | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    first = next(iter(columns.values()))
    rows += [f"| {name} | {' | '.join(f'{scores[name]:.2f}' for scores in columns.values())} |" for name in first]
    means = [sum(scores.values()) / len(scores) for scores in columns.values()]
    return "\n".join([*rows, f"| **mean** | {' | '.join(f'**{mean:.3f}**' for mean in means)} |"])


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("exam", choices=("tasks", "free", "needle", "ablate", "compare"))
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--cases", type=int, help="of each set; 20, for compare 40")
    parser.add_argument("--only", nargs="+", help="these task sets alone")
    parser.add_argument("--wrong", action="store_true", help="print the wrong answers")
    parser.add_argument("--simulation", action=argparse.BooleanOptionalAction, help="instead of the file's own key")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.cases = options.cases or (40 if options.exam == "compare" else 20)
    return options


if __name__ == "__main__":
    main()
