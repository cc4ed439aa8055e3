"""The group of commands: each is imported when it is called for, and every error of ours is one line.

It knows the commands' names and nothing of what they do.
"""

from __future__ import annotations

import errno
from importlib import import_module
from typing import Any

import click

from ds4_backend import __version__
from ds4_backend.errors import DS4Error
from ds4_backend.settings import wants_traceback

COMMANDS = {
    "bench": "ds4_backend.cli.bench",
    "cache": "ds4_backend.cli.cache",
    "convert": "ds4_backend.cli.convert",
    "debug": "ds4_backend.cli.debug",
    "doctor": "ds4_backend.cli.doctor",
    "download": "ds4_backend.cli.download",
    "imatrix": "ds4_backend.cli.imatrix",
    "inspect": "ds4_backend.cli.inspect",
    "models": "ds4_backend.cli.models",
    "proxy": "ds4_backend.cli.proxy",
    "serve": "ds4_backend.cli.serve",
    "status": "ds4_backend.cli.status",
    "stop": "ds4_backend.cli.stop",
    "verify": "ds4_backend.cli.verify",
    "warm": "ds4_backend.cli.warm",
}


class LazyGroup(click.Group):
    """A click group whose commands live in modules of their own, each under the name `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command's module."""
        if cmd_name not in COMMANDS:
            return None
        found = import_module(COMMANDS[cmd_name]).command
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; an error of ours ends it with `Error: ...` and exit status 1."""
        try:
            return super().invoke(ctx)
        except DS4Error as error:
            if wants_traceback():
                raise
            raise click.ClickException(str(error)) from error
        except OSError as error:  # a full disk, a folder that may not be written
            if wants_traceback() or error.errno == errno.EPIPE:  # a closed pipe is click's to end quietly
                raise
            raise click.ClickException(str(error)) from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ds4-backend")
def main() -> None:
    """DeepSeek V4 Flash on your own machine.

    DS4_BACKEND_TRACEBACK=1 shows a Python traceback with every error.
    """
    from ds4_backend.machine import check_platform, this_machine

    check_platform(this_machine())
