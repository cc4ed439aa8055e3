"""Modules that are imported when something of them is used: collecting the tests must not wait for large SDKs."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Lazily:
    """Stands for the module `name`, and has its classes only: pytest asks whatever it collects for other names."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if not attribute[0].isupper():
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)
