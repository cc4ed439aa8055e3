"""What the user may set: folders, the compute backend, where models run, and models of their own.

Lowest to highest: the defaults, the config file (`config.toml` in the user's config folder, or the file that
DS4_BACKEND_CONFIG names), the environment (DS4_BACKEND_<KEY>). A value that is not understood stops everything with
one `SettingsError`: a setting that is silently ignored is worse than none.

This module does not know which models exist (`catalog`), and it creates no folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from ds4_backend.errors import SettingsError
from ds4_backend.settings.kinds import DURATION, HOST, NAMES, PATH, SIZE, SWITCH, TOKEN, TOKENS, Kind, choice

APP = "ds4-backend"
PREFIX = "DS4_BACKEND_"


@dataclass(frozen=True, slots=True)
class Registered:
    """A model that the user registered under `[models.NAME]`.

    `context` is the longest prompt plus answer, in tokens; None means what the file allows. `dialect` and
    `cache_simulation` speak for a file that does not say it itself.
    """

    name: str
    path: Path
    context: int | None = None
    aliases: tuple[str, ...] = ()
    dialect: str | None = None
    cache_simulation: bool | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in force. Paths are absolute; they need not exist yet."""

    models_dir: Path
    cache_dir: Path
    state_dir: Path
    ops: str = "auto"
    cache: str = "on"
    cache_size: int | None = None
    host: str = "auto"
    keep_alive: float = 300.0
    token: str | None = field(default=None, repr=False)
    trace: Path | None = None
    models: tuple[Registered, ...] = ()
    config_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """One plain setting. `default_text` says the default in words, for the documentation."""

    name: str
    kind: Kind
    help: str
    default: Callable[[], Any]
    default_text: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()


KEYS = (
    Key(
        "models_dir",
        PATH,
        "Where `ds4-backend download` puts model files.",
        lambda: platformdirs.user_data_path(APP, appauthor=False) / "models",
        "`models` in the user's data folder",
    ),
    Key(
        "cache_dir",
        PATH,
        "What can be made again: compiled kernels, the prompt cache.",
        lambda: platformdirs.user_cache_path(APP, appauthor=False),
        "the user's cache folder",
    ),
    Key(
        "state_dir",
        PATH,
        "What is remembered between runs: the headers of verified downloads.",
        lambda: platformdirs.user_state_path(APP, appauthor=False),
        "the user's state folder",
    ),
    Key(
        "ops",
        choice("auto", "numpy", "mlx", "metal", "cuda"),
        "What computes. `auto` leaves the choice to the engine.",
        lambda: "auto",
        "`auto`",
    ),
    Key(
        "cache",
        choice("on", "off"),
        "Whether prompts' state is kept on disk, so that a long context is read once (docs/cache.md).",
        lambda: "on",
        "`on`",
    ),
    Key(
        "cache_size",
        SIZE,
        "The most that the prompt cache may hold on disk.",
        lambda: None,
        "a tenth of the free disk, at most 64 GB",
    ),
    Key(
        "host",
        HOST,
        "Where models run. `auto`: in the resident host, which is started when there is none; `off`: in the process "
        "that asks; an address: in the host that listens there (docs/host.md).",
        lambda: "auto",
        "`auto`",
    ),
    Key(
        "keep_alive",
        DURATION,
        "How long the host keeps a model that nobody uses, and then itself with no model.",
        lambda: 300.0,
        "`5m`",
    ),
    Key(
        "token",
        TOKEN,
        "The secret that a host's TCP listener asks for, and that a client of one sends.",
        lambda: None,
        "none",
    ),
    Key(
        "trace",
        PATH,
        "A file to which the host writes what happens to requests, without their text (docs/host.md).",
        lambda: None,
        "no trace",
    ),
)
MODEL_KEYS = {
    "path": PATH,
    "context": TOKENS,
    "aliases": NAMES,
    "dialect": choice("preview", "0731"),
    "cache_simulation": SWITCH,
}
ONLY_IN_ENVIRONMENT = {
    PREFIX + "CONFIG": "The config file to read instead of the user's own.",
    PREFIX + "TRACEBACK": "1 shows a Python traceback with every error.",
}


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings now in force.

    Raises SettingsError naming the key, the value, what is allowed, and where it was found.
    """
    environ = os.environ if environ is None else environ
    _check_environment(environ)
    file = _config_file(environ)
    table = _read_toml(file)
    values = {key.name: key.default() for key in KEYS}
    values |= _from_file(table, file)
    values |= _from_environment(environ)
    return Settings(models=_models(table.get("models", {}), file), config_file=file, **values)


def wants_traceback(environ: Mapping[str, str] | None = None) -> bool:
    """Whether DS4_BACKEND_TRACEBACK asks for tracebacks. Never raises: it is read while an error is being reported."""
    environ = os.environ if environ is None else environ
    return environ.get(PREFIX + "TRACEBACK", "").lower() in {"1", "true", "yes", "on"}


def _config_file(environ: Mapping[str, str]) -> Path:
    named = environ.get(PREFIX + "CONFIG")
    if named is None:
        return platformdirs.user_config_path(APP, appauthor=False) / "config.toml"
    path = Path(named).expanduser()
    if not path.is_file():
        raise SettingsError(f"{PREFIX}CONFIG names {named!r}, and no such file exists.")
    return path


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}.") from error
    import tomllib  # every llm command imports this module, and few users have a file

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not TOML: {error}.") from error


def _check_environment(environ: Mapping[str, str]) -> None:
    known = [key.variable for key in KEYS] + list(ONLY_IN_ENVIRONMENT)
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            raise _unknown("the environment", name, known)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    return {
        key.name: _read(key.kind, environ[key.variable], "the environment", key.variable)
        for key in KEYS
        if key.variable in environ
    }


def _from_file(table: Mapping[str, Any], file: Path) -> dict[str, Any]:
    kinds = {key.name: key.kind for key in KEYS}
    for name in table:
        if name not in kinds and name != "models":
            raise _unknown(str(file), name, [*kinds, "models"])
    return {name: _read(kind, table[name], str(file), name) for name, kind in kinds.items() if name in table}


def _models(tables: Any, file: Path) -> tuple[Registered, ...]:
    if not isinstance(tables, dict):
        raise _bad(str(file), "models", tables, "tables, [models.NAME]")
    found = tuple(_registered(name, table, file) for name, table in tables.items())
    _check_names(found, file)
    return found


def _registered(name: str, table: Any, file: Path) -> Registered:
    at = f"models.{name}"
    if not isinstance(table, dict):
        raise _bad(str(file), at, table, "a table with `path`")
    for key in table:
        if key not in MODEL_KEYS:
            raise _unknown(str(file), f"{at}.{key}", [f"{at}.{one}" for one in MODEL_KEYS])
    if "path" not in table:
        raise SettingsError(f"{file}: {at} has no `path`: the .gguf file of that model.")
    values = {key: _read(MODEL_KEYS[key], value, str(file), f"{at}.{key}") for key, value in table.items()}
    return Registered(name=name, **values)


def _check_names(models: tuple[Registered, ...], file: Path) -> None:
    owner: dict[str, str] = {}
    for model in models:
        for name in (model.name, *model.aliases):
            if name in owner:
                raise SettingsError(f"{file}: models.{owner[name]} and models.{model.name} both claim {name!r}.")
            owner[name] = model.name


def _read(kind: Kind, value: Any, origin: str, key: str) -> Any:
    try:
        return kind.read(value)
    except ValueError:
        shown = "(not shown)" if kind is TOKEN else value
        raise _bad(origin, key, shown, kind.allowed) from None


def _unknown(origin: str, key: str, known: list[str]) -> SettingsError:
    import difflib

    near = difflib.get_close_matches(key, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return SettingsError(f"{origin}: unknown setting {key!r}.{hint} Known: {', '.join(known)}.")


def _bad(origin: str, key: str, value: Any, allowed: str) -> SettingsError:
    return SettingsError(f"{origin}: {key} is {value!r}; allowed: {allowed}.")
