"""DeepSeek V4 as LiteLLM's provider `ds4`: `ds4/flash`, `ds4/tiny`, and any name that ds4-backend knows.

Importing this registers the provider and its models; `handler` is what a proxy's config.yaml names. Engines live in
`ds4_backend`, so a second copy of this package in one process shares them.
"""

from __future__ import annotations

import os

# Without it, every import of litellm asks GitHub for a price list, three times if there is no network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm
from litellm.types.llms.custom_llm import CustomLLMItem
from litellm.utils import custom_llm_setup

from litellm_ds4.affinity import ConversationAffinity
from litellm_ds4.handler import DS4
from litellm_ds4.models import PROVIDER, model_info

__all__ = ["DS4", "affinity", "handler", "register"]

handler = DS4()
affinity = ConversationAffinity()


def register() -> None:
    """Make `ds4/...` known to litellm, beside the providers that are there. Calling it again is harmless."""
    ours: CustomLLMItem = {"provider": PROVIDER, "custom_handler": handler}
    others = [entry for entry in litellm.custom_provider_map if entry["provider"] != PROVIDER]
    litellm.custom_provider_map = [*others, ours]
    litellm.suppress_debug_info = True  # else it prints a list of providers to stdout for each error
    custom_llm_setup()
    litellm.register_model(model_info())


register()
