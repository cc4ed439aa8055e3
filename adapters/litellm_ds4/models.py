"""Which engine a model's name means, and what litellm is told about each model. Knows no request."""

from __future__ import annotations

import logging
from typing import Any

from ds4_backend import catalog
from ds4_backend.connect import connect
from ds4_backend.engine.engine import Engine

log = logging.getLogger(__name__)

PROVIDER = "ds4"
SHORT = {"flash": catalog.FLASH_NAME, "tiny": catalog.TINY}
"""`ds4/flash` is `ds4-flash`; every other name is taken as it is."""

FREE = dict.fromkeys(
    ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost", "cache_creation_input_token_cost"),
    0.0,
)
ABILITIES = dict.fromkeys(
    (
        "supports_function_calling",
        "supports_parallel_function_calling",
        "supports_tool_choice",
        "supports_reasoning",
        "supports_response_schema",
        "supports_prompt_caching",
        "supports_system_messages",
        "supports_assistant_prefill",
    ),
    True,
)


def engine_for(model: str, address: str | None, token: str | None) -> Engine:
    """The engine of `model`, on this machine or on the host at `address`. Raises ModelError or HostError."""
    return connect(SHORT.get(model, model), address=address, token=token)


def model_info() -> dict[str, dict[str, Any]]:
    """What `litellm.register_model` takes, for every name of the catalogue: limits, abilities, and a price of zero."""
    longest = {name: entry.longest for entry in catalog.listed(log.warning) for name in entry.names}
    longest |= {short: longest[full] for short, full in SHORT.items() if full in longest}
    return {
        f"{PROVIDER}/{name}": {
            "litellm_provider": PROVIDER,
            "mode": "chat",
            "max_input_tokens": context,
            "max_output_tokens": context,
            **FREE,
            **ABILITIES,
        }
        for name, context in longest.items()
    }
