"""How a file's checkpoint was trained: its prompt dialect, and whether it expects its cache rounded.

The keys `ds4.dialect` and `ds4.cache_simulation` in the file's metadata say it. Files made by others lack them; then,
in this order: the user's config file, a header that a verified download left behind, the name and exact size of a
published build. Where nothing is known, `preview` with the simulation on is assumed, and a warning says so.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ds4_backend import settings as user_settings
from ds4_backend.catalog.builds import FLASH, Build
from ds4_backend.errors import FileError
from ds4_backend.settings import Settings

if TYPE_CHECKING:
    from ds4_backend.gguf.reader import GGUF

log = logging.getLogger(__name__)
DIALECTS = ("preview", "0731")
DIALECT_KEY = "ds4.dialect"
SIMULATION_KEY = "ds4.cache_simulation"
HEADERS = "headers.json"


@dataclass(frozen=True, slots=True)
class Profile:
    """`dialect` is `preview` or `0731`; `source` says in words who says so."""

    dialect: str
    cache_simulation: bool
    source: str


@dataclass(frozen=True, slots=True)
class _Word:
    """What one source says; None where it is silent."""

    source: str
    dialect: str | None
    cache_simulation: bool | None


def profile_of(gguf: GGUF, settings: Settings | None = None) -> Profile:
    """The profile of an open file. Each of the two answers comes from the first source that knows it.

    Raises FileError where the file's own keys hold something else than `preview` or `0731`, and a bool.
    """
    settings = settings or user_settings.load()
    words = list(_words(gguf, settings))
    dialect = next((word for word in words if word.dialect is not None), None)
    simulation = next((word for word in words if word.cache_simulation is not None), None)
    if dialect is None or simulation is None:
        log.warning(_assumed(gguf.paths[0], dialect is None, simulation is None))
    sources = [word.source for word in (dialect, simulation) if word is not None] or ["assumed"]
    return Profile(
        dialect=(dialect.dialect if dialect else None) or "preview",
        cache_simulation=True if simulation is None else bool(simulation.cache_simulation),
        source=" and ".join(dict.fromkeys(sources)),
    )


def remember_header(digest: str, build: Build, settings: Settings) -> None:
    """Notes that a file with this header digest is `build`, so that a copy of it is known under any name."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    file = settings.state_dir / HEADERS
    fresh = file.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(_headers(settings) | {digest: build.name}, indent=1), encoding="utf-8")
    fresh.replace(file)


def _words(gguf: GGUF, settings: Settings) -> Iterator[_Word]:
    yield _own_word(gguf)
    path = gguf.paths[0]
    for model in settings.models:
        if model.path == path or (model.path.exists() and path.exists() and model.path.samefile(path)):
            yield _Word(f"{settings.config_file}, models.{model.name}", model.dialect, model.cache_simulation)
    build = _remembered(gguf, settings)
    if build:
        yield _Word(f"the header of a verified download, build {build.name}", build.dialect, build.cache_simulation)
    for build in FLASH:
        if path.name == build.file and gguf.nbytes == build.nbytes:
            yield _Word(f"name and size of the published build {build.name}", build.dialect, build.cache_simulation)


def _own_word(gguf: GGUF) -> _Word:
    dialect = gguf.metadata.get(DIALECT_KEY)
    simulation = gguf.metadata.get(SIMULATION_KEY)
    if dialect is not None and dialect not in DIALECTS:
        raise FileError(f"{gguf.paths[0]}: {DIALECT_KEY} is {dialect!r}; known dialects are {', '.join(DIALECTS)}.")
    if simulation is not None and not isinstance(simulation, bool):
        raise FileError(f"{gguf.paths[0]}: {SIMULATION_KEY} is {simulation!r}; it must be a bool.")
    return _Word("the file's own metadata", dialect, simulation)


def _remembered(gguf: GGUF, settings: Settings) -> Build | None:
    headers = _headers(settings)
    if not headers:
        return None
    from ds4_backend.gguf.inspect import header_digest

    name = headers.get(header_digest(gguf))
    return next((build for build in FLASH if build.name == name), None)


def _headers(settings: Settings) -> dict[str, str]:
    file = settings.state_dir / HEADERS
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s); it is passed over.", file, error)
        return {}
    return found if isinstance(found, dict) else {}


def _assumed(path: Path, dialect: bool, simulation: bool) -> str:
    """What is assumed: the dialect, the simulation, or both."""
    open_ = ["which prompt dialect it was trained with"] * dialect + ["whether with a rounded cache"] * simulation
    taken = ["`preview`"] * dialect + ["a rounded cache (simulation on)"] * simulation
    keys = ["dialect"] * dialect + ["cache_simulation"] * simulation
    return (
        f"{path} does not say {' and '.join(open_)}; {' and '.join(taken)} assumed. If that is wrong, register the "
        f"file: [models.NAME] with path, {' and '.join(keys)} in the config file."
    )
