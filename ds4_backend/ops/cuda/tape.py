"""The launches of one forward pass as they are asked for, and where in memory what they make can lie.

While a tape is recorded nothing runs: a launch gives placeholders, and the ops pass them on as they would arrays. It
knows no device.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ds4_backend.ops.kernels.kernel import Kernel, Output, dtype_name

ITEM_BYTES = {"float32": 4, "int32": 4, "float16": 2}
ALIGNMENT = 256


@dataclass(frozen=True, eq=False)
class Made:
    """Stands for an array that a launch will make; `root` is the whole of it under another shape."""

    shape: tuple[int, ...]
    dtype: str
    root: Made | None = None

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    @property
    def whole(self) -> Made:
        return self.root or self

    def reshape(self, *shape: int) -> Made:
        """As of an array; one side may be -1."""
        size = math.prod(self.shape)
        known = math.prod(side for side in shape if side != -1)
        return Made(tuple(size // known if side == -1 else side for side in shape), self.dtype, self.whole)


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One launch; inputs are arrays of the device or placeholders."""

    kernel: Kernel
    inputs: tuple[Any, ...]
    outputs: tuple[Made, ...]
    groups: tuple[int, int, int]

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Names of all dtypes, inputs first."""
        return tuple(dtype_name(a) for a in (*self.inputs, *self.outputs))


@dataclass(eq=False)
class Tape:
    """What was asked for, in order. `given` are placeholders that no launch makes: they lie first, and stay."""

    given: tuple[Made, ...]
    asked: list[Asked] = field(default_factory=list)

    def ask(
        self, kernel: Kernel, inputs: Sequence[Any], outputs: Sequence[Output], groups: tuple[int, int, int]
    ) -> list[Any]:
        """Take one launch down."""
        made = tuple(Made(tuple(shape), dtype) for shape, dtype in outputs)
        self.asked.append(Asked(kernel, tuple(inputs), made, groups))
        return list(made)

    def places(self, kept: Made) -> tuple[dict[int, int], int]:
        """Offset of every placeholder by its id, and the bytes of all; `kept` is not overwritten once it is made.

        Launches run one after another, so what nobody reads any more makes room for the next of the same size.
        """
        places, size, free = dict[int, int](), 0, defaultdict[int, list[int]](list)
        for made in self.given:
            places[id(made)], size = size, size + _aligned(made.nbytes)
        last = self._last_uses(kept)
        for number, asked in enumerate(self.asked):
            for made in asked.outputs:
                room = free[_aligned(made.nbytes)]
                places[id(made)], size = (room.pop(), size) if room else (size, size + _aligned(made.nbytes))
            for made in last[number]:
                free[_aligned(made.nbytes)].append(places[id(made)])
        return places, size

    def _last_uses(self, kept: Made) -> dict[int, list[Made]]:
        """What can go after each launch."""
        uses: dict[int, tuple[int, Made]] = {}
        for number, asked in enumerate(self.asked):
            read = (a.whole for a in asked.inputs if isinstance(a, Made))
            uses |= {id(made): (number, made) for made in (*read, *asked.outputs)}
        stay = {id(kept.whole), *(id(made) for made in self.given)}
        last = defaultdict[int, list[Made]](list)
        for key, (number, made) in uses.items():
            if key not in stay:
                last[number].append(made)
        return last


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT
