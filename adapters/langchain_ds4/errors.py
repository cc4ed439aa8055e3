"""The core's errors under LangChain's names too, so that its retries, fallbacks and middleware know them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from langchain_core import exceptions as langchain

from ds4_backend import errors


def _both(ours: type[errors.DS4Error], theirs: type[langchain.ModelError]) -> type[errors.DS4Error]:
    """An error of both kinds: code that catches the core's goes on catching it."""
    return type(ours.__name__, (theirs, ours), {"__doc__": ours.__doc__, "__module__": __name__})


# The first that fits counts. What LangChain has no word for stays as it is.
NAMES = [
    (errors.ContextOverflow, _both(errors.ContextOverflow, langchain.ContextOverflowError)),
    (errors.RequestError, _both(errors.RequestError, langchain.ModelInvalidRequestError)),
    (errors.UnknownModel, _both(errors.UnknownModel, langchain.ModelNotFoundError)),
    (errors.NotInstalled, _both(errors.NotInstalled, langchain.ModelNotFoundError)),
    (errors.TookTooLong, _both(errors.TookTooLong, langchain.ModelTimeoutError)),
    (errors.Busy, _both(errors.Busy, langchain.ModelRateLimitError)),
    (errors.HostError, _both(errors.HostError, langchain.ModelConnectionError)),
]


@contextmanager
def told_to_langchain() -> Iterator[None]:
    """An error of the core inside is raised as LangChain's kind as well, with its own text."""
    try:
        yield
    except errors.DS4Error as error:
        for ours, both in NAMES:
            if isinstance(error, ours):
                raise both(str(error)) from error
        raise
