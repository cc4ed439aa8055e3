"""Our errors as litellm's, each with the HTTP status that tells a client and the router what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import litellm
from litellm.llms.custom_llm import CustomLLMError

from ds4_backend import errors
from litellm_ds4.models import PROVIDER

STATUS = (
    (errors.RequestError, 400),  # the caller can fix it; no retry helps
    ((errors.UnknownModel, errors.NotInstalled), 404),
    (errors.Busy, 429),  # the router waits, or takes another host
    ((errors.DoesNotFit, errors.HostError), 503),  # another host may do
    (errors.DS4Error, 500),
)


@contextmanager
def told_to_litellm(model: str) -> Iterator[None]:
    """Raises what litellm maps: ContextWindowExceededError with both numbers, or CustomLLMError with a status."""
    try:
        yield
    except errors.ContextOverflow as error:
        raise litellm.ContextWindowExceededError(str(error), model, PROVIDER) from error
    except errors.DS4Error as error:
        status = next(status for kinds, status in STATUS if isinstance(error, kinds))
        raise CustomLLMError(status, str(error)) from error
