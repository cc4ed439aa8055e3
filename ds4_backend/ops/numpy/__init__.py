"""The reference ops: float32 numpy over dequantised weights. Also the CPU engine of small models.

Weights are decoded to float32 at load, so this is for models of some hundred million parameters at most.
"""

from ds4_backend.ops.numpy.ops import NumpyOps
from ds4_backend.ops.numpy.state import NumpyState

__all__ = ["NumpyOps", "NumpyState"]
