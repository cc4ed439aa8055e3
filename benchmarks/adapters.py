"""What the front ends cost: the time to import each on top of its host, and the time per streamed token.

    python benchmarks/adapters.py [--tokens 2000] [--repeat 5] [--json] [llm] [litellm] [langchain]

Imports happen in fresh interpreters, the way a host makes them: with the models listed, or one made. Tokens come from
an engine that replays a script, so all the time is the mapping's and the host's. `mapping` is our code alone, `host`
and `host, async` are a whole streamed answer as a program gets it; each is the least of all rounds, and the rounds go
round the table, so that a busy moment hits all alike. The wait for a model is not in it: at 30 tokens a second one
token takes 33,000 microseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugins"), str(ROOT / "adapters")]

from ds4_backend.engine.scripted import scripted  # noqa: E402
from ds4_backend.types import End, Event, Message, Request, TextDelta, Timings, Usage  # noqa: E402

NAME = "scripted"
IMPORTS = {
    "llm": (
        "import llm, click",
        "import llm_ds4; llm_ds4.register_models(lambda *a, **k: None); llm_ds4.register_commands(click.Group())",
    ),
    "litellm": ("import litellm", "import litellm_ds4"),
    "langchain": (
        "from langchain_core.language_models.chat_models import BaseChatModel",
        "from langchain_ds4 import ChatDS4; ChatDS4(model='ds4-tiny')",
    ),
}
CLOCK = "(time.perf_counter(), time.process_time())"
Run = Callable[[], None]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("front_ends", nargs="*", choices=[[], *IMPORTS], default=[], metavar="FRONT_END")
    parser.add_argument("--tokens", type=int, default=2000, help="of the streamed answer")
    parser.add_argument("--repeat", type=int, default=5, help="rounds; the least of them counts")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else the import asks the network for prices
    names = given.front_ends or list(IMPORTS)
    report = {"imports": imports(names, given.repeat), "tokens": tokens(names, given.tokens, given.repeat)}
    print(json.dumps(report, indent=1) if given.json else as_text(report))


def imports(names: list[str], repeat: int) -> dict[str, dict[str, float]]:
    """Milliseconds of the host, and of ours on top: by the clock, and of the processor's time."""
    rounds = [{name: _imported(*IMPORTS[name]) for name in names} for _ in range(repeat)]
    return {name: _least(one[name] for one in rounds) for name in names}


def _imported(host: str, ours: str) -> dict[str, float]:
    code = f"import time; a = {CLOCK}\n{host}\nb = {CLOCK}\n{ours}\nprint(a, b, {CLOCK}, sep=';')"
    paths = os.pathsep.join([*sys.path[:3], os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    start, between, end = (
        tuple(map(float, part.strip("()").split(","))) for part in done.stdout.splitlines()[-1].split(";")
    )
    steps = {"host": (start, between), "ours": (between, end)}
    wall = {name: 1e3 * (b[0] - a[0]) for name, (a, b) in steps.items()}
    return wall | {f"{name}, processor": 1e3 * (b[1] - a[1]) for name, (a, b) in steps.items()}


def tokens(names: list[str], count: int, repeat: int) -> dict[str, dict[str, float]]:
    """Microseconds per token: the engine alone, and for each front end its mapping and whole answers."""
    events: list[Event] = [TextDelta(" word") for _ in range(count)]
    events.append(End("stop", Usage(10, count), Timings(0.1, 1.0)))
    found: dict[str, dict[str, float]] = {}
    with scripted(NAME) as engine:
        engine._scripts = _Always(events)  # type: ignore[assignment]
        runs: dict[str, dict[str, Run]] = {"engine": {"alone": lambda: _drain(engine.chat(_request()))}}
        runs |= {name: FRONT_ENDS[name](events) for name in names}
        for _ in range(repeat):
            for name, ways in runs.items():
                for way, run in ways.items():
                    least = found.setdefault(name, {}).get(way, float("inf"))
                    found[name][way] = min(least, 1e6 * _seconds(run) / count)
    return found


class _Always:
    """A list of scripts that never ends."""

    def __init__(self, script: list[Event]) -> None:
        self._script = script

    def __len__(self) -> int:
        return sys.maxsize

    def __getitem__(self, index: int) -> list[Event]:
        return self._script


def _llm(events: list[Event]) -> dict[str, Run]:
    import llm
    import llm_ds4
    from llm.plugins import pm
    from llm_ds4.answers import Answer
    from llm_ds4.models import DS4, AsyncDS4

    if pm.get_plugin("ds4") is None:
        pm.register(llm_ds4, name="ds4")
    plain: llm.Model = DS4(NAME)
    other: llm.AsyncModel = AsyncDS4(NAME)

    async def streamed() -> None:
        await _drain_async(other.prompt("question"))

    return {
        "mapping": _mapping(lambda: Answer(None).take, events),
        "host": lambda: _drain(plain.prompt("question")),
        "host, async": lambda: asyncio.run(streamed()),
    }


def _litellm(events: list[Event]) -> dict[str, Run]:
    import litellm_ds4
    from litellm_ds4.answers import Chunks

    litellm_ds4.register()
    import litellm

    call: dict[str, Any] = {
        "model": f"ds4/{NAME}",
        "messages": [{"role": "user", "content": "question"}],
        "stream": True,
    }

    async def streamed() -> None:
        await _drain_async(await litellm.acompletion(**call))

    return {
        "mapping": _mapping(lambda: Chunks(NAME).take, events),
        "host": lambda: _drain(litellm.completion(**call)),
        "host, async": lambda: asyncio.run(streamed()),
    }


def _langchain(events: list[Event]) -> dict[str, Run]:
    from langchain_ds4 import ChatDS4
    from langchain_ds4.answers import Answer

    model = ChatDS4(model=NAME)

    async def streamed() -> None:
        await _drain_async(model.astream("question"))

    return {
        "mapping": _mapping(lambda: Answer(NAME).take, events),
        "host": lambda: _drain(model.stream("question")),
        "host, async": lambda: asyncio.run(streamed()),
    }


FRONT_ENDS: dict[str, Callable[[list[Event]], dict[str, Run]]] = {
    "llm": _llm,
    "litellm": _litellm,
    "langchain": _langchain,
}


def _mapping(fresh: Callable[[], Callable[[Event], Iterable[Any]]], events: list[Event]) -> Run:
    """Our mapping alone, of every event but the last."""

    def run() -> None:
        take = fresh()
        for event in events[:-1]:
            _drain(take(event))

    return run


def _request() -> Request:
    return Request((Message("user", "question"),))


def _drain(items: Iterable[Any]) -> None:
    for _ in items:
        pass


async def _drain_async(items: AsyncIterator[Any]) -> None:
    async for _ in items:
        pass


def _seconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _least(rounds: Iterable[dict[str, float]]) -> dict[str, float]:
    listed = list(rounds)
    return {name: min(one[name] for one in listed) for name in listed[0]}


def as_text(report: dict[str, Any]) -> str:
    """Two tables."""
    lines = ["import, ms       host   and ours   (processor's time: host, ours)"]
    for name, row in report["imports"].items():
        processor = f"({row['host, processor']:.0f}, {row['ours, processor']:.0f})"
        lines.append(f"  {name:10} {row['host']:>9.0f} {row['ours']:>10.0f}   {processor}")
    alone = report["tokens"]["engine"]["alone"]
    lines += ["", f"per token, microseconds; the engine alone {alone:.2f}"]
    for name, ways in report["tokens"].items():
        if name != "engine":
            shown = [f"{way} {spent:.1f} ({spent / alone:.0f} times the engine)" for way, spent in ways.items()]
            lines.append(f"  {name:10} {', '.join(shown)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
