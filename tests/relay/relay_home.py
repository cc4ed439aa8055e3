"""What the relay's fixtures and its test share."""

from __future__ import annotations

import subprocess
import sys

KEY = "sk-relay"
"""The proxy's master key."""


def stop() -> None:
    """What `ds4-backend stop` does; it comes back once the host has ended."""
    subprocess.run([sys.executable, "-m", "ds4_backend.cli", "stop"], check=True, capture_output=True)
