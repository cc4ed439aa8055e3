#!/bin/sh
# Makes or updates the virtual environment .venv in the tree, with the extras named: tools/setup.sh llm
#
# Uses uv where it is on the PATH, else the venv module and pip. PYTHON=/path/to/python chooses the interpreter for a
# new environment. Nothing outside the tree is changed but the caches of uv and pip.
set -eu

extras=$1
oldest="3.11"
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv="$here/.venv"
python="$venv/bin/python"

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "$@"
    exit 1
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# The first interpreter that is new enough. A name on the PATH may be a stub that does not start: it is tried.
find_python() {
    for candidate in "${PYTHON:-}" python3.12 python3.13 python3.11 python3.14 python3 python; do
        if [ -n "$candidate" ] && new_enough "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

no_python() {
    found=$(python3 --version 2>&1 || true)
    say "ds4-backend needs Python $oldest or newer; python3 here says: ${found:-nothing}"
    say "  macOS:          brew install python@3.12"
    say "  Debian, Ubuntu: apt install python3.11 python3.11-venv   (or newer)"
    say "  anywhere:       install uv, and run this again: it fetches a Python"
    fail "Another interpreter can be named: make PYTHON=/path/to/python3.12 ..."
}

no_venv_module() {
    say "$1 lacks its own modules venv and ensurepip, which some systems package apart."
    say "  Debian, Ubuntu: apt install python3-venv   (or python3.11-venv, python3.12-venv, ...)"
    fail "With uv on the PATH they are not needed."
}

make_with_uv() {
    if base=$(find_python); then
        uv venv --quiet --seed --python "$base" "$venv"
    else
        say "No Python $oldest or newer on the PATH: uv looks for one, and fetches it if need be."
        uv venv --quiet --seed --python ">=$oldest" "$venv" || no_python
    fi
}

make_with_venv() {
    base=$(find_python) || no_python
    "$base" -c 'import venv, ensurepip' >/dev/null 2>&1 || no_venv_module "$base"
    "$base" -m venv "$venv"
}

install_extras() {
    if command -v uv >/dev/null 2>&1; then
        uv pip install --quiet --python "$python" --editable "$here[$extras]"
    else
        "$python" -m pip install --quiet --disable-pip-version-check --editable "$here[$extras]"
    fi
}

case $(uname -s) in
    MINGW* | MSYS* | CYGWIN*) fail "ds4-backend does not run on Windows itself; under WSL 2 it does." ;;
esac

# An environment that was interrupted, or whose interpreter is gone, is made anew.
if ! { [ -f "$venv/.made" ] && new_enough "$python"; }; then
    say "Making .venv ..."
    rm -rf "$venv"
    if command -v uv >/dev/null 2>&1; then make_with_uv; else make_with_venv; fi
    : >"$venv/.made"
fi
say "Installing ds4-backend[$extras] into .venv (the first time takes a minute) ..."
install_extras
