"""Mixed requests against one host for a long time: does anything hang, leak, or fail without saying why? `make soak`.

    python tools/soak.py --minutes 30 --clients 4

Clients are processes. They ask for plain answers, calls, JSON and long prompts, leave early now and then, and are
killed at random; the host is killed once, before memory is first measured. Everything is kept in a folder of its own.
It ends with 1 and the reasons if a request hangs, an error is not one of ours, an answer breaks off without an end,
the host's memory grows by more than `--growth` between a sixth of the time and its end, or the last request fails.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODEL = "ds4-tiny"
HUNG_SECONDS = 180
"""No request here should take a tenth of this, even on a busy machine."""
QUESTION, ANSWER = "What is 3 times 12?", "3 * 12 = 36"
REPORT_SECONDS = 10
KILL_SECONDS = 30
"""A client is killed about this often."""
SAMPLE_SECONDS = 1


def main() -> int:
    """Runs clients, or is one."""
    options = read_options()
    if options.client is not None:
        return be_client(options.client)
    with tempfile.TemporaryDirectory(prefix="ds4-soak-") as folder:
        os.environ |= {
            "DS4_BACKEND_STATE_DIR": f"{folder}/state",
            "DS4_BACKEND_CACHE_DIR": f"{folder}/cache",
            "DS4_BACKEND_HOST": "auto",
            "DS4_BACKEND_CACHE_SIZE": "300MB",
        }
        return Soak(options, Path(folder)).run()


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--growth", type=float, help="the most that memory may grow to: 1.05, or 1.5 under 10 minutes")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--client", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.growth = options.growth or (1.05 if options.minutes >= 10 else 1.5)
    return options


class Soak:
    """One run: starts clients again when they end, kills, measures, judges."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.random = options, random.Random(options.seed)
        self.seconds = options.minutes * 60
        self.counts: Counter[str] = Counter()
        self.bad: list[str] = []
        self.memory: list[tuple[float, int]] = []  # seconds from the start, bytes
        self.clients: list[Client] = []
        self.serial = options.seed * 1000

    def run(self) -> int:
        """Everything; returns the exit status."""
        begin = time.monotonic()
        kills = {"host": 0.03 * self.seconds}  # early, so that the next one is warm when memory is first measured
        last_report = 0.0
        while (now := time.monotonic() - begin) < self.seconds:
            self._keep_clients()
            if self.random.random() < SAMPLE_SECONDS / KILL_SECONDS:
                self.random.choice(self.clients).kill()
                self.counts["client killed"] += 1
            if "host" in kills and now > kills["host"] and (pid := host_pid()):
                os.kill(pid, 9)
                kills.pop("host")
                self.counts["host killed"] += 1
            self._sample(now)
            if now - last_report > REPORT_SECONDS:
                last_report = now
                print(f"{now:6.0f} s  {self._line()}", file=sys.stderr, flush=True)
            time.sleep(SAMPLE_SECONDS)
        return self._end()

    def _keep_clients(self) -> None:
        for client in [one for one in self.clients if one.process.poll() is not None]:
            self._collect(client)
            self.clients.remove(client)
        while len(self.clients) < self.options.clients:
            self.serial += 1
            self.clients.append(Client(self.serial))
        for client in self.clients:
            if time.monotonic() - client.heard > HUNG_SECONDS:
                self.bad.append(f"client {client.seed} heard nothing for {HUNG_SECONDS} s: {client.doing}")
                client.kill()

    def _collect(self, client: Client) -> None:
        client.reader.join()
        self.counts.update(client.counts)
        self.bad += client.bad
        if client.process.returncode not in (0, -9):
            self.bad.append(f"client {client.seed} ended with {client.process.returncode}: {client.error()}")

    def _sample(self, now: float) -> None:
        import psutil

        if pid := host_pid():
            try:
                self.memory.append((now, psutil.Process(pid).memory_info().rss))
            except psutil.NoSuchProcess:
                return

    def _line(self) -> str:
        total = self.counts + sum((client.counts for client in self.clients), Counter())
        memory = f"{self.memory[-1][1] / 1e6:.0f} MB" if self.memory else "no host"
        return f"{memory}  " + ", ".join(f"{count} {what}" for what, count in sorted(total.items()))

    def _end(self) -> int:
        for client in self.clients:
            client.process.terminate()
        for client in self.clients:
            client.process.wait(HUNG_SECONDS)
            client.process.returncode = 0  # it was told to end
            self._collect(client)
        self._judge()
        report = {"minutes": self.options.minutes, "counts": dict(self.counts), "memory": self._growth()}
        print(json.dumps(report | {"bad": self.bad}, indent=None if self.options.json else 2))
        return 1 if self.bad else 0

    def _judge(self) -> None:
        if not self.counts["answered"]:
            self.bad.append("no request was answered")
        growth = self._growth()
        if growth and growth["ratio"] > self.options.growth:
            self.bad.append(f"memory grew {growth['ratio']:.3f} times; {self.options.growth} is allowed")
        last = run_last()
        if last != ANSWER:
            self.bad.append(f"the last request got {last!r} instead of {ANSWER!r}")

    def _growth(self) -> dict[str, float]:
        """The host's memory after a sixth of the time (5 of 30 minutes) and at the end, medians of a few samples."""
        early = [size for at, size in self.memory if at >= self.seconds / 6][:5]
        late = [size for _, size in self.memory[-5:]]
        if not early or not late:
            return {}
        first, last = sorted(early)[len(early) // 2], sorted(late)[len(late) // 2]
        return {"early_bytes": first, "late_bytes": last, "ratio": last / first}


class Client:
    """A client process, and what it says line by line."""

    def __init__(self, seed: int) -> None:
        self.seed, self.heard, self.doing = seed, time.monotonic(), "starting"
        self.counts: Counter[str] = Counter()
        self.bad: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--client", str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def kill(self) -> None:
        self.process.kill()

    def error(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()[-500:]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard = time.monotonic()
            try:
                said = json.loads(line)
            except ValueError:
                continue  # killed in the middle of a line
            self.doing = said.get("doing", self.doing)
            if "count" in said:
                self.counts[said["count"]] += 1
            if "bad" in said:
                self.bad.append(said["bad"])


def host_pid() -> int | None:
    """The host's process, or None where none answers just now."""
    from ds4_backend import settings
    from ds4_backend.errors import HostError
    from ds4_backend.host.launch import link_of
    from ds4_backend.host.place import place_of

    try:
        return int(link_of(place_of(settings.load())).call("/hello")["pid"])
    except HostError:
        return None


def run_last() -> str:
    """The answer to a question whose answer is known, and the end of the host."""
    from ds4_backend.connect import connect
    from ds4_backend.errors import DS4Error
    from ds4_backend.types import TextDelta

    try:
        events = list(connect(MODEL).chat(plain(QUESTION)))
        return "".join(event.text for event in events if isinstance(event, TextDelta))
    except DS4Error as error:
        return f"{type(error).__name__}: {error}"
    finally:
        subprocess.run([sys.executable, "-m", "ds4_backend.cli", "stop"], check=False, capture_output=True)


# The client --------------------------------------------------------------------------------------------------------


def be_client(seed: int) -> int:
    """Ask until told to end."""
    from ds4_backend.connect import connect
    from ds4_backend.errors import DS4Error

    chance = random.Random(seed)
    for number in range(1_000_000):
        kind, request = a_request(chance, seed * 1_000_000 + number)
        say(doing=kind)
        try:
            say(**outcome(connect(MODEL).chat(request), kind, leave_after(chance)))
        except DS4Error as error:
            name = type(error).__name__
            say(count=f"refused {name}") if str(error) else say(bad=f"{name} says nothing")
    return 0


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def leave_after(chance: random.Random) -> int | None:
    """After how many events the client leaves; None is never."""
    return chance.randrange(1, 12) if chance.random() < 0.25 else None


def outcome(events: Iterator[Any], kind: str, leave: int | None) -> dict[str, str]:
    """What came of one request."""
    from contextlib import closing

    from ds4_backend.types import End, Failed, TextDelta

    text, last = "", None
    with closing(events) as stream:  # type: ignore[type-var]
        for number, last in enumerate(stream, 1):
            text += last.text if isinstance(last, TextDelta) else ""
            if number == leave and not isinstance(last, End | Failed):
                return {"count": "left"}
    if isinstance(last, Failed):
        return {"count": f"failed {type(last.error).__name__}"}
    if not isinstance(last, End):
        return {"bad": f"{kind}: the answer broke off after {last}"}
    if kind == "known" and text != ANSWER:
        return {"bad": f"{QUESTION} got {text!r}"}
    if kind == "json" and last.finish_reason == "stop":
        json.loads(text)
    return {"count": "answered"}


def a_request(chance: random.Random, number: int) -> tuple[str, Any]:
    """One of the kinds, with numbers that nobody asked before."""
    from dataclasses import replace

    from ds4_backend.types import JsonSchema, Message, Sampling, Tool

    kind = chance.choice(["known", "known", "sampled", "call", "json", "long", "thinking"])
    request = plain(QUESTION if kind == "known" else f"Request {number}: what is {number % 89} plus {number % 97}?")
    match kind:
        case "sampled":
            request = replace(request, sampling=Sampling(temperature=1.0), max_tokens=40)
        case "call":
            city = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"]}
            request = replace(request, tools=(Tool("get_weather", "", city),), tool_choice="required", max_tokens=120)
        case "json":
            schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 99}}, "required": ["n"]}
            request = replace(request, response_format=JsonSchema(schema), max_tokens=60)
        case "long":
            text = " ".join(f"item {number * i % 997}" for i in range(chance.randrange(100, 600)))
            request = replace(request, messages=(Message("user", text),), max_tokens=10)
        case "thinking":
            request = replace(request, thinking=True, max_thinking_tokens=20)
    return kind, request


def plain(text: str) -> Any:
    from ds4_backend.types import Message, Request, Sampling

    return Request((Message("user", text),), thinking=False, sampling=Sampling(temperature=0), max_tokens=80)


if __name__ == "__main__":
    sys.exit(main())
