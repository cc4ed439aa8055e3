"""Modules that are imported when something of them is used: collecting the tests must not wait for large SDKs."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Lazily:
    """Stands for the module `name`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
