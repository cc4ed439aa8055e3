"""From a model's name to its file: the embedded model, the published builds, and what the user registered.

It reads no model file and opens no connection; `download` (download.py) puts files where this module looks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ds4_backend import settings as user_settings
from ds4_backend.catalog.builds import FLASH, Build
from ds4_backend.catalog.fitting import what_fits
from ds4_backend.errors import DS4Error, NotInstalled, UnknownModel
from ds4_backend.settings import Registered, Settings

TINY = "ds4-tiny"
TINY_ABOUT = "a very small model of the same architecture, part of this package"
TINY_LIMITS = (1 << 15, 1 << 10)
"""Context and answer of the embedded model, in tokens. It may repeat itself for ever."""
FLASH_NAME = "ds4-flash"
FLASH_ALIAS = "ds4"
CONTEXT = 1 << 20
"""Tokens; `deepseek4.context_length` of every published file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model as a list shows it. `path` is None where its weights are not on this machine.

    `context` limits prompt and answer, in tokens: the user's own word from the config file, or ours for the embedded
    model; None means what the file allows. `answer` is how long an answer may be where the request does not say.
    """

    name: str
    aliases: tuple[str, ...]
    path: Path | None
    about: str
    context: int | None = None
    answer: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Its name and its aliases."""
        return (self.name, *self.aliases)

    @property
    def longest(self) -> int:
        """The longest prompt and answer, in tokens, as far as it is known before the file is read."""
        return self.context or CONTEXT


def models(settings: Settings | None = None) -> tuple[Entry, ...]:
    """Every model that has a name here, the user's own first. A name that the user claimed is the user's."""
    settings = settings or user_settings.load()
    own = tuple(_own_entry(model) for model in settings.models)
    taken = {name for entry in own for name in entry.names}
    known = _known(_best_installed(settings))
    return own + tuple(_without(entry, taken) for entry in known if entry.name not in taken)


def listed(complain: Callable[[str], None]) -> tuple[Entry, ...]:
    """`models()` for a host that has models of others too, which a config file of ours must not stop: one that cannot
    be read is complained of, and the names that are always there remain."""
    try:
        return models()
    except DS4Error as error:
        complain(f"ds4-backend: {error}")
        return _known(None)


def resolve(name: str, settings: Settings | None = None) -> Path:
    """The file of the model called `name`.

    `name` is a name or alias from `models()`, `ds4-flash:BUILD` for one published build, or a path to a .gguf file.
    Raises UnknownModel with the nearest names, or NotInstalled saying what fits this machine and how to get it.
    """
    settings = settings or user_settings.load()
    for model in settings.models:
        if name in (model.name, *model.aliases):
            return _registered_path(model, settings)
    if name == TINY:
        return _installed_tiny()
    model_name, _, build_name = name.partition(":")
    if model_name in (FLASH_NAME, FLASH_ALIAS):
        return _flash_path(build_name, settings)
    if name.endswith(".gguf") or "/" in name:
        return _given_path(name)
    raise _unknown_model(name, settings)


def limits(path: Path, settings: Settings | None = None) -> tuple[int | None, int | None]:
    """`Entry.context` and `Entry.answer` of the model whose file is `path`; None where nobody has set them."""
    for entry in models(settings):
        if entry.path is not None and entry.path.resolve() == path.resolve():
            return entry.context, entry.answer
    return None, None


def find_build(name: str) -> Build:
    """The published build called `name`. Raises UnknownModel with the names there are."""
    for build in FLASH:
        if build.name == name:
            return build
    raise UnknownModel(f"There is no build {name!r}.{_near(name, [b.name for b in FLASH])} Builds: {_names()}.")


def build_path(build: Build, settings: Settings) -> Path:
    """Where `build` lies once it is downloaded."""
    return settings.models_dir / build.file


def is_installed(build: Build, settings: Settings) -> bool:
    """Whether the whole file is there: a file of another size is not."""
    path = build_path(build, settings)
    return path.is_file() and path.stat().st_size == build.nbytes


def _known(flash: tuple[Build, Path] | None) -> tuple[Entry, ...]:
    about = f"DeepSeek V4 Flash, build {flash[0].name}" if flash else "DeepSeek V4 Flash, not downloaded"
    return (
        Entry(TINY, (), _tiny_path(), TINY_ABOUT, *TINY_LIMITS),
        Entry(FLASH_NAME, (FLASH_ALIAS,), flash[1] if flash else None, about),
    )


def _own_entry(model: Registered) -> Entry:
    path = model.path if model.path.is_file() else None
    return Entry(model.name, model.aliases, path, f"registered: {model.path}", model.context)


def _without(entry: Entry, taken: set[str]) -> Entry:
    aliases = tuple(alias for alias in entry.aliases if alias not in taken)
    return Entry(entry.name, aliases, entry.path, entry.about, entry.context)


def _registered_path(model: Registered, settings: Settings) -> Path:
    if not model.path.is_file():
        raise NotInstalled(
            f"{model.name} is registered in {settings.config_file} as {model.path}, and there is no such file. "
            f"Correct `path` under [models.{model.name}], or remove that table."
        )
    return model.path


def _tiny_path() -> Path | None:
    path = Path(str(resources.files("ds4_backend") / "assets" / f"{TINY}.gguf"))
    return path if path.is_file() else None


def _installed_tiny() -> Path:
    path = _tiny_path()
    if path is None:
        raise NotInstalled(f"{TINY} is part of ds4-backend, and its file is missing: install ds4-backend again.")
    return path


def _best_installed(settings: Settings) -> tuple[Build, Path] | None:
    found = (build for build in FLASH if is_installed(build, settings))
    best = next(found, None)
    return (best, build_path(best, settings)) if best else None


def _flash_path(build_name: str, settings: Settings) -> Path:
    if build_name:
        build = find_build(build_name)
        if is_installed(build, settings):
            return build_path(build, settings)
        raise NotInstalled(f"{FLASH_NAME}:{build.name} is not installed.\n{what_fits(settings)}")
    best = _best_installed(settings)
    if best is None:
        raise NotInstalled(f"{FLASH_NAME} is not installed.\n{what_fits(settings)}")
    return best[1]


def _given_path(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UnknownModel(f"{name} is a folder; name a .gguf file." if path.is_dir() else f"There is no file {name}.")
    return path


def _unknown_model(name: str, settings: Settings) -> UnknownModel:
    known = [one for entry in models(settings) for one in entry.names]
    return UnknownModel(f"There is no model {name!r}.{_near(name, known)} Known: {', '.join(known)}.")


def _near(name: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _names() -> str:
    return ", ".join(build.name for build in FLASH)
