"""Draws the time to the first token of an answer: cold, with the prompt's state in memory, and with it on disk.

    python examples/first_token/draw.py                                     # ds4-tiny; writes first-token.svg
    python examples/first_token/draw.py --model ds4-flash --prompts 2000,8000,32000 --out flash.svg

Each length has a disk cache of its own, empty at first and gone afterwards. Between memory and disk the model is closed
and loaded again; the loading itself is not in the times.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from ds4_backend.engine.running import running
from ds4_backend.measure.chart import Line, Panel, svg
from ds4_backend.measure.first_token import FirstToken, first_token


def measured(model: str, tokens: int) -> FirstToken:
    """One length of prompt, in this process."""
    with tempfile.TemporaryDirectory(prefix="first-token-") as folder:
        os.environ |= {"DS4_BACKEND_CACHE_DIR": folder, "DS4_BACKEND_CACHE": "on"}
        return first_token(lambda: running(model), tokens)


def picture(model: str, rows: list[FirstToken]) -> str:
    """All three over the prompt's length, and below the two that would be lost at the bottom of the first."""
    cold, memory, disk = (
        Line(name, [(row.tokens, getattr(row, attribute)) for row in rows])
        for name, attribute in (("cold", "cold"), ("in memory", "memory"), ("on disk", "disk"))
    )
    return svg(
        [
            Panel(f"time to the first token, seconds: {model}", "prompt, tokens", [cold, memory, disk]),
            Panel("the same without the cold start", "prompt, tokens", [memory, disk]),
        ]
    )


def table(rows: list[FirstToken]) -> str:
    """The figures, and how many tokens were not read again."""
    lines = ["   prompt      cold    memory      disk  seconds; tokens found in memory, on disk"]
    for row in rows:
        times = f"{row.cold:>9.2f} {row.memory:>9.3f} {row.disk:>9.3f}"
        lines.append(f"{row.tokens:>9,} {times}  {row.from_memory:,}, {row.from_disk:,}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time to the first token: cold, from memory, from disk.")
    parser.add_argument("--model", default="ds4-tiny")
    parser.add_argument("--prompts", default="1000,2000,4000,8000", help="lengths in tokens, about")
    parser.add_argument("--out", type=Path, default=Path("first-token.svg"))
    given = parser.parse_args()

    rows = [measured(given.model, int(tokens)) for tokens in given.prompts.split(",")]
    given.out.write_text(picture(given.model, rows), encoding="utf-8")
    print(table(rows))
    print(f"\nThe picture is in {given.out}.")


if __name__ == "__main__":
    main()
