"""`ds4-backend proxy`: LiteLLM's proxy in front of our models, with the config file that comes with the package.

It checks what would otherwise fail late or silently, then becomes the proxy's process. It knows where things are, and
nothing of LiteLLM's settings; those are in the config file.
"""

from __future__ import annotations

import os
import socket
import sys
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

import click

from ds4_backend.errors import SettingsError

OWN_CONFIG = "litellm.yaml"
NEEDED = ("litellm", "litellm_ds4", "fastapi", "uvicorn", "apscheduler", "orjson", "backoff")
"""What the `proxy` extra brings; asked for by name, because importing litellm takes seconds."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")
KEY = "LITELLM_MASTER_KEY"
NO_KEY = "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"


@click.command("proxy", context_settings={"ignore_unknown_options": True})
@click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), help=f"Default: {OWN_CONFIG} here, else ours."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=4000, show_default=True, type=click.IntRange(1, 65535), help="The port to listen on.")
@click.option("--show-config", is_flag=True, help="Print the config file that would be used, and end.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(config: Path | None, host: str, port: int, show_config: bool, arguments: tuple[str, ...]) -> None:
    """Serve the models to OpenAI and Anthropic clients, by LiteLLM's proxy.

    Clients reach it at http://HOST:PORT, with LITELLM_MASTER_KEY as their key if that is set. ARGUMENTS go to the
    `litellm` command as they are. To change the config file, start from ours:
    `ds4-backend proxy --show-config > litellm.yaml`.
    """
    file = _config(config)
    if show_config:
        click.echo(file.read_text(encoding="utf-8"), nl=False)
        return
    _check_installed()
    _check_key(host)
    _check_port(host, port)
    click.echo(f"LiteLLM's proxy with {file}: http://{host}:{port} (the first answer takes a while)", err=True)
    _become(["--config", str(file), "--host", host, "--port", str(port), "--telemetry", "False", *arguments])


def _config(given: Path | None) -> Path:
    if given is None:
        return Path(OWN_CONFIG) if Path(OWN_CONFIG).is_file() else _shipped()
    if not given.is_file():
        raise SettingsError(
            f"there is no config file {given}; `ds4-backend proxy --show-config` prints one to begin with"
        )
    return given


def _shipped() -> Path:
    """The example's file: inside the package once installed, beside it in a checkout."""
    package = Path(str(resources.files("ds4_backend")))
    for path in (package / "assets" / OWN_CONFIG, package.parent / "examples" / "litellm" / "config.yaml"):
        if path.is_file():
            return path
    raise SettingsError("the config file for the proxy is part of ds4-backend, and it is missing: install it again")


def _check_installed() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise SettingsError(
            f"the proxy needs {', '.join(missing)}: pip install 'ds4-backend[proxy]'. That extra also installs "
            "litellm-enterprise, which is under a proprietary licence (docs/litellm.md)"
        )


def _check_key(host: str) -> None:
    """Without a key, serve this machine alone: LiteLLM would not start at all then, unless told."""
    if os.environ.get(KEY):
        return
    if host not in LOOPBACK:
        raise SettingsError(f"{host} can be reached from other machines, and no key is set: export {KEY}=sk-... first")
    os.environ.setdefault(NO_KEY, "true")
    click.echo(f"{KEY} is not set: whatever runs on this machine may ask, with any key", err=True)


def _check_port(host: str, port: int) -> None:
    """LiteLLM would take another port, at random."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise SettingsError(f"port {port} of {host} cannot be used: {error.strerror}; choose one by --port") from error


def _become(arguments: list[str]) -> None:
    """Replace this process by the `litellm` command; its signals and its exit status are then its own."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks GitHub for prices at every start
    os.execv(sys.executable, [sys.executable, "-c", "from litellm import run_server; run_server()", *arguments])
