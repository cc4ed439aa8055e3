"""`python -m ds4_backend.host FOLDER`: the host as launch.py starts it. People use `ds4-backend serve`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from ds4_backend import settings as user_settings
from ds4_backend.errors import DS4Error, HostError
from ds4_backend.host.place import place_of
from ds4_backend.host.process import Options, serve


def main(folder: str) -> int:
    """Serve until stopped or idle; the exit status. `folder` is where the caller expects this host."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    logging.getLogger("ds4_backend").setLevel(logging.INFO)
    try:
        settings = user_settings.load()
        if place_of(settings).folder != Path(folder):
            raise HostError(f"this host's settings belong to {place_of(settings).folder}, not to {folder}")
        serve(settings, Options(keep_alive=settings.keep_alive, trace=settings.trace))
    except (DS4Error, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
