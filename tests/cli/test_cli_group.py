"""The command line's frame: help, errors, what is loaded when."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from ds4_backend.cli.group import COMMANDS
from ds4_backend.errors import UnknownModel


def test_help_lists_every_command(run):
    result = run("--help")
    assert result.exit_code == 0
    assert all(name in result.output for name in COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(run, name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_a_misspelt_command_is_refused(run):
    result = run("modles")
    assert result.exit_code == 2
    assert "modles" in result.output


def test_an_error_of_ours_is_one_line_and_exit_one(run):
    result = run("inspect", "no-such-model")
    assert result.exit_code == 1
    assert result.output.startswith("Error: There is no model 'no-such-model'.")
    assert "Traceback" not in result.output


def test_the_traceback_variable_lets_the_error_through(run, monkeypatch):
    monkeypatch.setenv("DS4_BACKEND_TRACEBACK", "1")
    assert isinstance(run("inspect", "no-such-model").exception, UnknownModel)


def test_a_full_disk_is_one_line_and_no_traceback(run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "some.file")

    monkeypatch.setattr("ds4_backend.catalog.resolve", full)
    result = run("inspect", "ds4-tiny")
    assert result.exit_code == 1
    assert result.output == "Error: [Errno 28] No space left on device: 'some.file'\n"


def test_a_folder_in_place_of_a_model_is_told(run, tmp_path):
    result = run("inspect", tmp_path)
    assert result.exit_code == 1 and "is a folder; name a .gguf file" in result.output


def test_windows_is_refused_before_any_command(run, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Windows")
    result = run("models")
    assert result.exit_code == 1
    assert "Error: This is Windows. Under WSL 2" in result.output


def test_the_version_is_printed(run):
    from ds4_backend import __version__

    assert __version__ in run("--version").output


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from ds4_backend.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "heavy = {'numpy', 'mlx', 'gguf', 'tokenizers', 'huggingface_hub', 'deepseek_recipe', 'tqdm', 'psutil'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_runs_as_a_module():
    words = [sys.executable, "-m", "ds4_backend.cli", "--version"]
    assert "ds4-backend" in subprocess.run(words, capture_output=True, text=True, check=True).stdout
