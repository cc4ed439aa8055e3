"""What the self-test said on this machine, kept in a file: it runs once for a device, an MLX and a set of kernels.

It decides which families of kernels stock MLX operations replace. It knows no network.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from platformdirs import user_cache_path

from ds4_backend.errors import EngineError
from ds4_backend.ops.kernels.kernel import Launcher, Listener

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The user's cache folder for this package; DS4_BACKEND_CACHE_DIR moves it, as it moves the prompt cache."""
    named = os.environ.get("DS4_BACKEND_CACHE_DIR")
    return Path(named) if named else user_cache_path("ds4-backend", appauthor=False)


def device_name() -> str:
    """The device of MLX's next operation, as a file may be called."""
    import mlx.core as mx

    name = str(mx.device_info(mx.default_device()).get("device_name", "device"))
    return "".join(c if c.isalnum() else "_" for c in name)


def failed_families(language: str, launcher: Callable[[], Launcher]) -> frozenset[str]:
    """Families of kernels that are wrong on this machine. The first call for a machine runs the self-test, and says
    so: on CUDA it compiles every kernel."""
    path = cache_folder() / "kernels" / f"{language}-{device_name()}-{_digest()}.json"
    try:
        return frozenset(json.loads(path.read_text(encoding="utf-8"))["failed"])
    except (OSError, ValueError, KeyError, TypeError):  # not tested yet, or a file that a crash left half written
        log.info("testing the %s kernels on this machine, once", language)
        failed = _tested(launcher())
    with suppress(OSError):  # in a folder that cannot be written the next process tests again
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({"failed": sorted(failed)}), encoding="utf-8")
        partial.replace(path)
    return failed


def _tested(launcher: Launcher) -> frozenset[str]:
    from ds4_backend.ops.kernels.selftest import run

    if programs := getattr(launcher, "programs", None):  # compiled together first, where that is ours to do
        listener = Listener(launcher.language)
        list(run(listener))
        with suppress(EngineError):  # the test says which kernel no compiler takes
            programs.prepare(listener.asked.values())
    wrong = [outcome for outcome in run(launcher) if not outcome.ok]
    for outcome in wrong:
        log.warning("kernel %s is wrong here (error %.1e) %s; MLX's own operations stand in for its family, %s",
                    outcome.body, outcome.error, outcome.trouble, outcome.family)  # fmt: skip
    return frozenset(outcome.family for outcome in wrong)


def _digest() -> str:
    """Of all texts, of the code that puts them together, and of MLX's version: each may change the verdict."""
    digest, package = hashlib.sha256(version("mlx").encode()), files(__package__)
    for folder in (package, package.joinpath("text")):
        for path in sorted(folder.iterdir(), key=lambda path: path.name):
            if path.name.endswith((".py", ".msl", ".h")):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
