"""A kernel as text with its arrays' names, and what launches one: MLX on Metal or CUDA. It knows no network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from ds4_backend.ops.kernels.generator import compact, header, render, source

FORMATS = ("F32", "F16", "BF16", "Q8_0", "Q2_K", "Q4_K", "IQ2_XXS", "MXFP4")
"""The block formats that kernels decode."""
DIGITS = ("Q8_0", "Q2_K", "IQ2_XXS")
"""Those that are multiplied as whole numbers, too: `text/digits.msl`."""

Array = Any
Output = tuple[tuple[int, ...], str]
"""Shape and dtype name (`float32`, `float16`, `int32`) of an output."""


@dataclass(frozen=True)
class Kernel:
    """One body with its constants. `body` names a file `text/body_<body>.msl`.

    `constants` are put before the body: integers and floats as constexpr, strings as the type of that name.
    `parts` replaces words of the body by text (GRID_TABLE, PARTS and the like).
    """

    body: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    threads: int
    constants: Mapping[str, int | float | str] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def text(self) -> str:
        """The body in the common dialect, constants first."""
        text = compact(source(f"body_{self.body}.msl"))
        for word, replacement in self.parts.items():
            text = replacement.join(re.split(rf"\b{word}\b", text))
        return "".join(_constant(*item) for item in {"THREADS": self.threads, **self.constants}.items()) + text

    def header(self, language: str) -> str:
        """What goes before the kernel in a language: its libraries, and the block formats that it names."""
        named = [f for f in FORMATS if re.search(rf"\b{f}\b", self.text)]
        of_formats = {"blocks": "format", "fragments": "fragment", "digits": "digits"}
        libraries: list[str] = []
        for library in self.libraries:
            libraries.append(library)
            known = DIGITS if library == "digits" else FORMATS
            libraries += [f"{of_formats[library]}_{f}" for f in named if library in of_formats and f in known]
        return header(tuple(libraries), language)

    def source(self, language: str) -> str:
        """The kernel's body in a language."""
        return render(self.text, language)

    @cached_property
    def name(self) -> str:
        """Differs wherever the text differs: MLX keeps compiled kernels under it, on disk too."""
        digest = hashlib.sha256("".join([self.text, self.header("cuda"), *self.inputs]).encode())
        return f"ds4_{self.body}_{digest.hexdigest()[:12]}"


def _constant(name: str, value: int | float | str) -> str:
    if isinstance(value, str):
        return f"typedef {value} {name};\n"
    if isinstance(value, bool):
        return f"constexpr bool {name} = {str(value).lower()};\n"
    if isinstance(value, float):
        return f"constexpr float {name} = {value!r}f;\n"
    return f"constexpr int {name} = {value};\n"


def type_name(array: Array) -> str:
    """What kernels call the type of a float array: results of prefill's products are float16."""
    return "half" if dtype_name(array) == "float16" else "float"


def dtype_name(array: Array) -> str:
    """As of NumPy: `float32`; MLX says `mlx.core.float32`."""
    return str(array.dtype).rpartition(".")[2]


class Launcher(Protocol):
    """Runs kernels. `groups` are threadgroups along three axes."""

    language: str

    def run(
        self, kernel: Kernel, inputs: Sequence[Array], outputs: Sequence[Output], groups: tuple[int, int, int]
    ) -> list[Array]:
        """The outputs, lazily where the device is lazy. Inputs must be contiguous and hold at least 8 values."""


class MlxLauncher:
    """`mx.fast.metal_kernel` or `mx.fast.cuda_kernel`; a kernel is built at its first launch."""

    def __init__(self, language: str) -> None:
        import mlx.core as mx

        self.language, self.launches = language, 0
        self._make: Any = {"metal": mx.fast.metal_kernel, "cuda": mx.fast.cuda_kernel}[language]
        self._dtypes = {name: getattr(mx, name) for name in ("float32", "float16", "int32")}
        self._built: dict[int, tuple[Kernel, Any]] = {}

    def run(
        self, kernel: Kernel, inputs: Sequence[Array], outputs: Sequence[Output], groups: tuple[int, int, int]
    ) -> list[Array]:
        built = self._built.get(id(kernel))
        if built is None:
            # weights may be views into shared pages: MLX would copy what it does not know to be contiguous
            function = self._make(
                kernel.name, list(kernel.inputs), list(kernel.outputs), kernel.source(self.language),
                kernel.header(self.language), False,
            )  # fmt: skip
            built = self._built[id(kernel)] = (kernel, function)
        self.launches += 1
        return built[1](
            inputs=list(inputs),
            output_shapes=[shape for shape, _ in outputs],
            output_dtypes=[self._dtypes[dtype] for _, dtype in outputs],
            grid=(groups[0] * kernel.threads, groups[1], groups[2]),
            threadgroup=(kernel.threads, 1, 1),
        )


class Listener:
    """Launches nothing and gives zeros; `asked` holds each kernel with the dtypes of its inputs and outputs."""

    launches = 0

    def __init__(self, language: str) -> None:
        self.language = language
        self.asked: dict[str, tuple[Kernel, tuple[str, ...]]] = {}

    def run(
        self, kernel: Kernel, inputs: Sequence[Array], outputs: Sequence[Output], groups: tuple[int, int, int]
    ) -> list[Array]:
        import mlx.core as mx

        given = (dtype_name(a) for a in inputs)
        self.asked[kernel.name] = (kernel, (*given, *(dtype for _, dtype in outputs)))
        return [mx.zeros(shape, getattr(mx, dtype)) for shape, dtype in outputs]
