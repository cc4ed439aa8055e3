"""The DeepSeek V4 network over the ops of a device: weights, conversations' state, the forward pass."""

from ds4_backend.model.load import load_model
from ds4_backend.model.model import Model
from ds4_backend.model.sequence import Sequence, Snapshot

__all__ = ["Model", "Sequence", "Snapshot", "load_model"]
