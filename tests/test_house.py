"""The house rules that a tool can hold: which way imports run, what an import loads, how long things are."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "ds4_backend"
FRONT_ENDS = sorted(path.parent for folder in ("plugins", "adapters") for path in ROOT.glob(f"{folder}/*/__init__.py"))

# A module of the core may import from its own part and from lower layers, never from its own layer or above.
LAYERS = (
    {"errors", "types", "options", "progress"},
    {"settings", "machine", "gguf"},
    {"ops", "tokenizer", "cache"},
    {"model", "chat", "catalog"},
    {"convert", "engine"},
    {"host", "measure"},
    {"connect"},
    {"cli"},
)
# The cache knows bytes and token ids; the network knows no words.
BANNED = {
    "cache": {"gguf", "ops", "tokenizer", "settings", "machine"},
    "model": {"tokenizer", "settings", "machine"},
    "ops": {"settings", "machine", "types"},
}
HOSTS = {"llm", "litellm", "langchain", "langchain_core", "langgraph", "starlette", "uvicorn"}
HEAVY = {
    "mlx", "tokenizers", "gguf", "deepseek_recipe", "huggingface_hub", "safetensors", "torch", "transformers", "tqdm",
    "psutil", "llguidance", "jsonschema", "referencing",
}  # fmt: skip


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Full names of the modules that a file imports, wherever in it."""
    names: list[str] = []
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            if node.module == "ds4_backend":
                names += (f"ds4_backend.{alias.name}" for alias in node.names)
    return tuple(names)


def part_of(module: str) -> str | None:
    """`ds4_backend.gguf.reader` is of the part `gguf`; None for other packages and for the package itself."""
    package, _, rest = module.partition(".")
    name = rest.partition(".")[0]
    return name if package == "ds4_backend" and name and not name.startswith("__") else None


def layer_of(part: str) -> int:
    for number, layer in enumerate(LAYERS):
        if part in layer:
            return number
    pytest.fail(f"ds4_backend.{part} has no layer yet: give it one in LAYERS")


def core_files() -> list[tuple[str, Path]]:
    files = [(path.relative_to(CORE).parts[0].removesuffix(".py"), path) for path in python_files(CORE)]
    return [(part, path) for part, path in files if not part.startswith("__")]


def test_imports_in_the_core_run_one_way():
    wrong = [
        f"{path.relative_to(ROOT)} imports ds4_backend.{other}"
        for part, path in core_files()
        for other in filter(None, map(part_of, imported(path)))
        if other != part and layer_of(other) >= layer_of(part)
    ]
    assert wrong == []


def test_parts_that_must_not_know_each_other_do_not():
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for part, path in core_files()
        for module in imported(path)
        if part_of(module) in BANNED.get(part, set())
    ]
    assert wrong == []


def test_the_core_knows_no_host_framework_and_no_front_end():
    strangers = HOSTS - {"starlette", "uvicorn"} | {folder.name for folder in FRONT_ENDS}
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in python_files(CORE)
        for module in imported(path)
        if module.partition(".")[0] in strangers
    ]
    assert wrong == []


def test_front_ends_do_not_know_each_other():
    names = {folder.name for folder in FRONT_ENDS}
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for folder in FRONT_ENDS
        for path in python_files(folder)
        for module in imported(path)
        if module.partition(".")[0] in names - {folder.name}
    ]
    assert wrong == []


# Of each front end: what its host has loaded anyway, and how ours is then used before the first question.
IMPORTS = {
    "llm_ds4": (
        "import llm, click",
        "import llm_ds4; llm_ds4.register_models(lambda *a, **k: None); llm_ds4.register_commands(click.Group())",
    ),
    "litellm_ds4": ("import litellm", "import litellm_ds4"),
    "langchain_ds4": (
        "from langchain_core.language_models.chat_models import BaseChatModel",
        "from langchain_ds4 import ChatDS4; ChatDS4(model='ds4-tiny')",
    ),
}
MAY_LOAD = {"ds4_backend", "platformdirs"}


def loaded_by(code: str, before: str = "pass") -> set[str]:
    """Top-level packages that running `code` in a fresh interpreter, after `before`, adds to those in memory."""
    paths = [str(ROOT), str(ROOT / "plugins"), str(ROOT / "adapters")]
    names = "{name.partition('.')[0] for name in sys.modules}"
    code = f"import sys; sys.path[:0] = {paths}; {before}; had = {names}; {code}; print(*{names} - had)"
    offline = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["ds4_backend", "ds4_backend.catalog", "ds4_backend.engine", "ds4_backend.cli"])
def test_importing_the_core_loads_nothing_heavy_and_no_host(module):
    assert loaded_by(f"import {module}") & (HEAVY | HOSTS) == set()


@pytest.mark.parametrize(
    "folder",
    # Importing LiteLLM takes ten seconds.
    [pytest.param(folder, marks=[pytest.mark.slow] * (folder.name == "litellm_ds4")) for folder in FRONT_ENDS],
    ids=lambda folder: folder.name,
)
def test_a_front_end_loads_few_packages_more_than_its_host(folder):
    host, ours = IMPORTS[folder.name]
    if find_spec(re.split(r"\W+", host)[1]) is None:
        pytest.skip(f"the host of {folder.name} is not installed")
    more = loaded_by(ours, host) - sys.stdlib_module_names
    assert {folder.name, "ds4_backend"} <= more <= MAY_LOAD | {folder.name}


def tracked_text() -> Iterator[tuple[str, str]]:
    """Path and text of every file of the repository that is text."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        path = ROOT / name
        if path.is_file() and path.stat().st_size < 1 << 20:
            try:
                yield name, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


# Spelt in halves, or this file would find itself.
FORBIDDEN = [
    "/wo" + "rk/", "/tm" + "p/", "../sha" + "red", "pypi" + r"\.org", "python" + "hosted", r"\bTO" + r"DO\b",
    r"\bFIX" + r"ME\b", "/ro" + "ot/",
]  # fmt: skip


def test_no_file_names_a_folder_of_some_machine_or_work_left_undone():
    pattern = re.compile("|".join(FORBIDDEN))
    wrong = [f"{name}: {found[0]}" for name, text in tracked_text() if (found := pattern.search(text))]
    assert wrong == []


def all_python() -> list[Path]:
    return [path for folder in ("ds4_backend", "plugins", "adapters", "tests", "benchmarks", "tools", "examples")
            for path in python_files(ROOT / folder)]  # fmt: skip


def test_files_stay_below_600_lines_and_functions_below_80():
    wrong = []
    for path in all_python():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 600:
            wrong.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 80:
                    wrong.append(f"{path.relative_to(ROOT)}: {node.name} has {length} lines")
    assert wrong == []


def test_no_two_test_files_share_a_name():
    """pytest imports them without packages, so each name exists once."""
    names = [path.name for path in python_files(ROOT / "tests") if path.name.startswith("test_")]
    assert sorted(names) == sorted(set(names))


def test_every_module_says_what_it_is():
    silent = [
        str(path.relative_to(ROOT))
        for path in all_python()
        if path.relative_to(ROOT).parts[0] in ("ds4_backend", "plugins", "adapters")
        and path.stat().st_size  # an empty __init__.py has nothing to say
        and not ast.get_docstring(syntax(path))
    ]
    assert silent == []
