"""From a model's name to an engine in this process: one per file, shared by every front end here.

It knows the catalogue and how to load; what loads is imported only when something does.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ds4_backend import catalog
from ds4_backend import settings as user_settings
from ds4_backend.engine.defaults import sampling_defaults
from ds4_backend.engine.engine import Engine
from ds4_backend.errors import DoesNotFit

if TYPE_CHECKING:
    from ds4_backend.catalog.profile import Profile
    from ds4_backend.engine.disk import DiskCache
    from ds4_backend.engine.local import LocalEngine
    from ds4_backend.gguf.reader import GGUF
    from ds4_backend.model import Model
    from ds4_backend.settings import Settings
    from ds4_backend.tokenizer import Tokenizer

Progress = Callable[[int, int], None]
"""Called with (layers loaded, layers)."""

LARGE_FILE = 1 << 30
"""Bytes from which on a model is asked whether it fits, and is run by MLX."""

MakeRoom = Callable[[int, str], None]
"""Called with a file's bytes and the model's name before it is loaded; raises DoesNotFit where there is no room."""

_lock = threading.Lock()
_loading = threading.Lock()
_running: dict[Path, LocalEngine] = {}
_loaded: weakref.WeakKeyDictionary[LocalEngine, int] = weakref.WeakKeyDictionary()
"""Every engine of this process and the bytes of its file, those too that were closed and are not released yet."""
_offered: dict[str, Engine] = {}


def running(model: str, *, progress: Progress = lambda done, total: None, make_room: MakeRoom | None = None) -> Engine:
    """The engine for `model`, a name from the catalogue or the path of a .gguf file; loads it on the first call.

    `make_room` is asked before anything is loaded; None is `check_memory`, beside what this process has loaded.
    The engine is shared: closing it closes it for everybody, and the next call loads afresh. Raises ModelError
    (UnknownModel, NotInstalled, DoesNotFit, FileError) saying what to do.
    """
    given = offered(model)
    if given is not None:
        return given
    settings = user_settings.load()
    path = catalog.resolve(model, settings).resolve()
    with _loading:  # one at a time: what a model needs is not seen before it is loaded
        with _lock:
            if path in _running:
                return _running[path]
        engine = _load(model, path, settings, progress, make_room or _check_beside_others)
        with _lock:
            _running[path] = engine
        return engine


def offered(name: str) -> Engine | None:
    """The engine that `offer` has put in the place of `name`, if any."""
    with _lock:
        return _offered.get(name)


@contextmanager
def offer(name: str, engine: Engine) -> Iterator[None]:
    """While open, `running(name)` and `connect(name)` give `engine` whatever the catalogue says."""
    with _lock:
        before = _offered.get(name)
        _offered[name] = engine
    try:
        yield
    finally:
        with _lock:
            if before is None:
                del _offered[name]
            else:
                _offered[name] = before


def close_all() -> None:
    """Close every engine of this process, so that what their caches still have to write is written. Runs at exit."""
    for engine in list(_loaded):
        engine.close(cancel=True)


atexit.register(close_all)


def check_memory(nbytes: int, name: str, held: int = 0) -> None:
    """Raise DoesNotFit with the numbers where this machine's memory cannot hold a model file of `nbytes`, beside the
    `held` bytes of the models that are loaded already."""
    from ds4_backend.machine import WORKING_MEMORY, gib, this_machine

    if nbytes < LARGE_FILE:  # fits anywhere, and its state is small too
        return
    total = this_machine().memory_total
    if nbytes + WORKING_MEMORY + held > total:
        beside = f", of which loaded models hold {gib(held)}" if held else ""
        raise DoesNotFit(
            f"{name} needs {gib(nbytes)} for its weights and {gib(WORKING_MEMORY)} to work in; this machine has "
            f"{gib(total)} of memory{beside}. `ds4-backend models` shows what fits"
        )


def _check_beside_others(nbytes: int, name: str) -> None:
    held = [size for engine, size in list(_loaded.items()) if not engine.released]
    check_memory(nbytes, name, held=sum(size for size in held if size >= LARGE_FILE))


def _load(name: str, path: Path, settings: Settings, progress: Progress, make_room: MakeRoom) -> LocalEngine:
    from ds4_backend.catalog.profile import profile_of
    from ds4_backend.engine.grammar.vocabulary import prepare
    from ds4_backend.engine.local import LocalEngine
    from ds4_backend.engine.room import Room
    from ds4_backend.engine.worker import Worker
    from ds4_backend.gguf.reader import open_gguf
    from ds4_backend.machine import check_platform, this_machine
    from ds4_backend.model import load_model
    from ds4_backend.tokenizer import Tokenizer

    check_platform(this_machine())
    file = open_gguf(path)
    make_room(file.nbytes, name)
    profile = profile_of(file, settings)
    defaults = sampling_defaults(file.metadata, profile.dialect, _expert_formats(file))
    tokenizer = Tokenizer.from_gguf(file.metadata)
    prepare(tokenizer)
    worker = Worker(path.stem)
    try:
        model = worker.call(
            load_model,
            file,
            ops=ops_for(settings, file),
            cache_simulation=profile.cache_simulation,
            progress=progress,
        )
        disk = _disk(settings, file, profile, model, tokenizer)
    except BaseException:
        worker.close()
        raise
    context, answer = catalog.limits(path, settings)
    engine = LocalEngine(
        model,
        tokenizer,
        profile.dialect,
        name=path.stem,
        defaults=defaults,
        context=context,
        answer=answer,
        disk=disk,
        worker=worker,
        room=Room(model.geometry, path.stem),
        owns_model=True,
        on_close=lambda: _forget(path),
    )
    _loaded[engine] = file.nbytes
    return engine


def _disk(settings: Settings, file: GGUF, profile: Profile, model: Model, tokenizer: Tokenizer) -> DiskCache | None:
    """The model's part of the disk cache, unless it is switched off."""
    from ds4_backend.cache.fingerprint import fingerprint, weight_files
    from ds4_backend.cache.store import Store
    from ds4_backend.engine.disk import DiskCache, layout_name

    if settings.cache == "off":
        return None
    name = fingerprint(
        weight_files(file),
        dialect=profile.dialect,
        cache_simulation=profile.cache_simulation,
        layout=layout_name(),
    )
    store = Store.open(settings.cache_dir / "prompts", max_bytes=settings.cache_size)
    store.register(name, file.paths[0].stem)
    return DiskCache(store, name, model, tokenizer)


def ops_for(settings: Settings, file: GGUF) -> str:
    """What computes. The numpy ops suit a model that fits a processor's caches; a large one runs by the kernels of the
    GPU that is there, or by plain MLX operations."""
    if settings.ops != "auto":
        return settings.ops
    if file.nbytes < LARGE_FILE:
        return "numpy"
    from ds4_backend.ops.device import mlx_device

    kind = mlx_device().kind
    return kind if kind in ("metal", "cuda") else "mlx"


def _expert_formats(file: GGUF) -> set[str]:
    return {tensor.format.name for name, tensor in file.tensors.items() if "_exps." in name}


def _forget(path: Path) -> None:
    with _lock:
        _running.pop(path, None)
