"""The ops contract in stock MLX operations: correct on every MLX device (Metal, CUDA, CPU), the safety net of all.

Weights stay the file's raw blocks and are decoded in pieces right before a product, so a model far larger than its
float32 form runs, slowly. This package is the only place that imports mlx.
"""

from ds4_backend.ops.mlx.ops import MlxOps
from ds4_backend.ops.mlx.state import MlxState

__all__ = ["MlxOps", "MlxState"]
