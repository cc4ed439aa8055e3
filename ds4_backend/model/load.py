"""From a GGUF file to a model that runs. It knows no network and no chat format."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from ds4_backend.errors import DoesNotFit
from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.reader import GGUF, open_gguf
from ds4_backend.gguf.schema import check_tensors
from ds4_backend.model.model import Model
from ds4_backend.model.weights import bind
from ds4_backend.ops import device, make_ops


def load_model(
    source: Path | str | GGUF,
    *,
    ops: str = "numpy",
    cache_simulation: bool | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Model:
    """Load a DeepSeek V4 GGUF file; `Model.release` gives its memory back.

    `cache_simulation` None takes the file's own key `ds4.cache_simulation`, or on where it has none. `progress(layers
    done, layers)` is called while weights are bound. Raises FileError for a file that is damaged or is another network,
    DoesNotFit before any weight is read where the memory cannot hold it.
    """
    file = source if isinstance(source, GGUF) else open_gguf(source)
    geometry = Geometry.from_metadata(file.metadata)
    check_tensors(file.tensors, geometry)
    check_memory(file, ops)
    if cache_simulation is None:
        cache_simulation = bool(file.metadata.get("ds4.cache_simulation", True))
    kernels = make_ops(ops, geometry, cache_simulation=cache_simulation)
    model = Model(geometry, kernels, bind(file.tensors, geometry, kernels, progress))
    device.give_back()  # what the copies to a GPU went through
    return model


def check_memory(file: GGUF, ops: str) -> None:
    """Raise DoesNotFit with the numbers where these ops cannot hold the file's weights; wire them where that helps."""
    if ops == "numpy":
        _check_float32(file)
        return
    weights, found = sum(tensor.nbytes for tensor in file.tensors.values()), device.mlx_device()
    device.check_room(weights, found)
    device.keep_resident(weights, found)


def _check_float32(file: GGUF) -> None:
    """The numpy ops hold every weight as float32, eight to sixteen times what a 2-bit file takes."""
    needed = 4 * sum(math.prod(tensor.shape) for tensor in file.tensors.values())
    if needed >= device.SMALL and needed > (total := device.host_memory()):
        raise DoesNotFit(
            f"the numpy ops hold every weight as float32: {needed / device.GIB:.1f} GiB for this model, and this "
            f"machine has {total / device.GIB:.1f} GiB. The setting `ops` = auto takes others"
        )
