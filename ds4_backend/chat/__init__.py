"""Between a conversation and token ids: prompt rendering one way, parsing of what the model writes the other way.

Knows the model family's prompt format and nothing of weights, state or sampling.
"""

from ds4_backend.chat.parse import Parser
from ds4_backend.chat.render import Rendered, Segment, render

__all__ = ["Parser", "Rendered", "Segment", "render"]
