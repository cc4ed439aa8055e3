"""`make demo`: what it runs, without running it."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def commands(*words: str) -> str:
    done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_a_prompt_that_looks_like_an_option_is_a_prompt():
    assert '-- "$DS4_PROMPT"' in commands("demo", "PROMPT=-h")


def test_the_demo_keeps_its_logs_and_its_cache_in_the_tree():
    shown = commands("demo")
    assert f'LLM_USER_PATH="{ROOT}/.venv/llm"' in shown
    assert f'DS4_BACKEND_CACHE_DIR="{ROOT}/.venv/cache"' in shown


def test_nothing_in_a_prompt_is_expanded_by_make_or_the_shell():
    assert "secret" not in commands("demo", "PROMPT=$(shell echo secret) `echo secret`")
