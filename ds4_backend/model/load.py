"""From a GGUF file to a model that runs. It knows no network and no chat format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.reader import GGUF, open_gguf
from ds4_backend.gguf.schema import check_tensors
from ds4_backend.model.model import Model
from ds4_backend.model.weights import bind
from ds4_backend.ops import make_ops


def load_model(
    source: Path | str | GGUF,
    *,
    ops: str = "numpy",
    cache_simulation: bool | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Model:
    """Load a DeepSeek V4 GGUF file.

    `cache_simulation` None takes the file's own key `ds4.cache_simulation`, or on where it has none. `progress(layers
    done, layers)` is called while weights are bound. Raises FileError for a file that is damaged or is another network.
    """
    file = source if isinstance(source, GGUF) else open_gguf(source)
    geometry = Geometry.from_metadata(file.metadata)
    check_tensors(file.tensors, geometry)
    if cache_simulation is None:
        cache_simulation = bool(file.metadata.get("ds4.cache_simulation", True))
    kernels = make_ops(ops, geometry, cache_simulation=cache_simulation)
    return Model(geometry, kernels, bind(file.tensors, geometry, kernels, progress))
