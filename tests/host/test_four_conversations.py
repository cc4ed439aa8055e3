"""Four conversations from four processes at once, two of which vanish: nobody is disturbed, nothing is lost."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from test_process import client, until

from ds4_backend.connect import connect
from ds4_backend.engine.running import running
from ds4_backend.host.launch import link_of
from ds4_backend.host.place import Place
from ds4_backend.types import End, Event, Message, Request, Sampling, TextDelta

ROOT = Path(__file__).parents[2]
# The end-of-sentence token is pushed away, so that all four are still written when two of them vanish.
ENDLESS = Sampling(temperature=0, logit_bias={1: -100.0})
QUESTIONS = ("Count from 1 to 90.", "What is 3 times 12?", "Hello!", "Name three cities.")
WORDS = " ".join(f"item {number % 89}" for number in range(120))


def question(number: int) -> Request:
    """A question after a prefix of some pages, different for each number."""
    messages = (Message("system", f"Conversation {number}: {WORDS}"), Message("user", QUESTIONS[number]))
    return Request(messages, thinking=False, sampling=ENDLESS, max_tokens=150)


def told(events: list[Event]) -> tuple[str, End]:
    last = events[-1]
    assert isinstance(last, End), last
    return "".join(event.text for event in events if isinstance(event, TextDelta)), last


def python(number: int, *, vanish: bool) -> subprocess.Popen[str]:
    """A client process that asks question `number`; one that vanishes kills itself at the first word."""
    act = "os.kill(os.getpid(), signal.SIGKILL)" if vanish else "said.append(event.text)"
    return client(
        "import json\nfrom test_four_conversations import question\nsaid = []\n"
        f"for event in connect('ds4-tiny').chat(question({number})):\n"
        f"    if type(event).__name__ == 'TextDelta': {act}\n"
        "print(json.dumps(''.join(said)))"
    )


def terminal() -> subprocess.Popen[str]:
    """`llm` on a command line, with a long prompt."""
    start = "import llm_ds4; from llm.plugins import pm; pm.get_plugin('ds4') or pm.register(llm_ds4, name='ds4')\n"
    code = f"sys.argv[1:] = ['-m', 'ds4-tiny', '-o', 'temperature', '0', {WORDS + ' What is 3 times 12?'!r}]\n"
    return client(start + code + "from llm.cli import cli\ncli()")


@pytest.mark.slow
def test_every_answer_is_what_it_is_alone_and_the_status_tells_the_truth(
    real: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llm")
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path / "llm"))
    with monkeypatch.context() as patch:  # alone, in this process, on a cache of its own
        patch.setenv("DS4_BACKEND_CACHE", "off")
        with running("ds4-tiny") as engine:
            alone = told(list(engine.chat(question(0))))[0]
            long = Request((Message("user", WORDS + " What is 3 times 12?"),), sampling=Sampling(temperature=0))
            alone_in_terminal = told(list(engine.chat(long)))[0]
    connect("ds4-tiny")
    clients = [python(0, vanish=False), terminal(), python(2, vanish=True), python(3, vanish=True)]
    seen: list[dict[str, Any]] = []

    def ended() -> bool:
        seen.append(connect("ds4-tiny").status() | {"gone": sum(one.poll() is not None for one in clients)})
        return seen[-1]["gone"] == 4

    until(ended)
    assert json.loads(clients[0].communicate()[0]) == alone
    assert clients[1].communicate()[0].strip() == alone_in_terminal.strip()
    assert [one.returncode for one in clients] == [0, 0, -9, -9]
    assert max(status["running"] + status["queued"] for status in seen) <= 4
    until(lambda: link_of(real).call("/status")["requests"]["in_progress"] == 0)
    counts = link_of(real).call("/status")["requests"]
    assert (counts["answered"], counts["cancelled"], counts["failed"]) == (2, 2, 0)
    status = connect("ds4-tiny").status()
    assert (status["running"], status["queued"], status["answered"]) == (0, 0, 2)
    for number in range(4):  # what the vanished ones had read is there for a retry
        if number != 1:
            usage = told(list(connect("ds4-tiny").chat(question(number))))[1].usage
            assert usage.cached >= usage.input - 1


def test_the_tokens_of_the_tiny_model_are_those_that_this_test_pushes_away() -> None:
    from ds4_backend import catalog
    from ds4_backend.gguf.reader import open_gguf
    from ds4_backend.tokenizer import Tokenizer

    assert Tokenizer.from_gguf(open_gguf(catalog.resolve("ds4-tiny")).metadata).eos == next(iter(ENDLESS.logit_bias))
