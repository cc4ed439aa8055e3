"""The `ds4-backend` command; the llm plugin mounts the same group as `llm ds4`. One file per command.

Importing this package loads click and nothing heavier.
"""

from __future__ import annotations

from ds4_backend.cli.group import main

__all__ = ["main"]
