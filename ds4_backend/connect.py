"""From a model's name to an engine, wherever it runs: the one door that front ends use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ds4_backend import settings as user_settings
from ds4_backend.engine.engine import Engine
from ds4_backend.engine.running import offered, running

if TYPE_CHECKING:
    from ds4_backend.settings import Settings

Progress = Callable[[int, int], None]
"""Called with (layers loaded, layers)."""


def connect(
    model: str,
    *,
    address: str | None = None,
    token: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Engine:
    """The engine for `model`, a name from the catalogue or the path of a .gguf file; comes back once it is loaded.

    `address` is a host's: unix:///path/of/socket, or http://name:port with `token`; None is the setting `host`: the
    resident host, started if there is none, or this process. An engine of a host may be closed by whoever is done with
    it; one of this process is shared, and closing it closes it for everybody. Either way the next `connect` gives a
    fresh one.

    Raises ModelError (UnknownModel, NotInstalled, DoesNotFit, FileError) or HostError saying what to do.
    """
    given = offered(model)
    if given is not None:
        return given
    settings = user_settings.load()
    where = address or settings.host
    if where == "off":
        return running(model, progress=progress)
    return _at_host(model, settings, None if where == "auto" else where, token or settings.token, progress)


def _at_host(model: str, settings: Settings, address: str | None, token: str | None, progress: Progress) -> Engine:
    from ds4_backend import catalog
    from ds4_backend.host.client import HostEngine
    from ds4_backend.host.link import link_to
    from ds4_backend.host.place import place_of

    if address is None:  # a name that is wrong is refused here: no host is started for it
        path = str(catalog.resolve(model, settings).resolve())
        engine = HostEngine(path, place=place_of(settings), progress=progress)
    else:
        engine = HostEngine(_as_told(model), link=link_to(address, token), progress=progress)
    engine.load()
    return engine


def _as_told(model: str) -> str:
    """A path in full, as another process needs it; a name as it is: the host at an address has its own catalogue."""
    path = Path(model).expanduser()
    return str(path.absolute()) if model.endswith(".gguf") or "/" in model else model
