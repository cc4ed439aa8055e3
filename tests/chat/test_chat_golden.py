from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import make_golden  # beside this file
import pytest

from ds4_backend.chat import render
from ds4_backend.chat.openai import request_from_openai
from ds4_backend.types import JsonObject, JsonSchema, ResponseFormat

FILES = sorted(make_golden.GOLDEN.glob("*.json"))


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def form(value: dict[str, Any] | None) -> ResponseFormat | None:
    """The schema as the file has it. Read as OpenAI's, its keys would be closed, and the prompt would say so too."""
    if value is None:
        return None
    return JsonSchema(value["json_schema"]["schema"]) if value["type"] == "json_schema" else JsonObject()


def rendered(golden: dict[str, Any]) -> str:
    options = golden["options"]
    wanted = form(options.get("response_format"))
    request = request_from_openai(
        golden["messages"], thinking=options["thinking"], effort=options["effort"], response_format=wanted
    )
    return render(request, options["dialect"]).text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_prompt_is_rendered_byte_for_byte(path: Path) -> None:
    golden = load(path)
    assert rendered(golden) == golden["expected"]


def test_the_installed_encoder_still_gives_the_golden_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_golden.main(check=True) == 0, capsys.readouterr().out


def test_every_case_has_its_file_and_every_file_its_case() -> None:
    assert {path.stem for path in FILES} == {case.name for case in make_golden.CASES}


def test_each_of_the_four_exceptions_has_a_golden_prompt() -> None:
    seen = {name for path in FILES for name in load(path)["exceptions"]}
    assert seen == {make_golden.EFFORT, make_golden.IDS, make_golden.SYSTEM, make_golden.KEEP}
