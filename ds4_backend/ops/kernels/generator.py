"""From one source to two languages: bodies are written in a subset of Metal, and rewritten to CUDA word by word.

The subset: address spaces on every pointer; threadgroup arrays of one axis, declared in the body; the attributes in
`_ATTRIBUTES`; simdgroup functions of the preludes; no vector arithmetic. What differs more is in two preludes
(`text/prelude_*.h`), and for tiles of products in `text/tiles_*.h`, which give both languages the same names; products
whose operands lie in registers (`text/mma_cuda.h`) are CUDA's alone. It knows no kernel and no device.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

LANGUAGES = ("metal", "cuda")
OWN = ("tiles", "mma")
"""Libraries that are written in each language; only CUDA has `mma`."""

_ATTRIBUTES = {
    "threadgroup_position_in_grid": "blockIdx",
    "thread_index_in_threadgroup": "threadIdx.x",
    "thread_index_in_simdgroup": "(threadIdx.x & 31u)",
    "simdgroup_index_in_threadgroup": "(threadIdx.x >> 5)",
}
_RULES = (
    (r"\bthreadgroup_barrier\([^)]*\)", "__syncthreads()"),
    (r"\bsimdgroup_barrier\([^)]*\)", "__syncwarp()"),
    # tensor cores want addresses of 32 bytes
    (r"\bthreadgroup\s+(\w+\s+\w+\s*\[)", r"__shared__ __align__(32) \1"),
    (r"\b(?:device|threadgroup|thread|constant)\s+", ""),
    (r"\binline\b", "__device__ inline"),
)


def to_cuda(text: str) -> str:
    """A body or library of the subset as CUDA."""
    for word, meaning in _ATTRIBUTES.items():
        text = re.sub(rf"\b{word}\b", meaning, text)
    for pattern, replacement in _RULES:
        text = re.sub(pattern, replacement, text)
    return text


def render(text: str, language: str) -> str:
    """A body or library in one of LANGUAGES, without comments and indentation: MLX copies the text at every launch."""
    return squeeze(compact(to_cuda(text) if language == "cuda" else text))


def compact(text: str) -> str:
    """The text without comments, indentation and empty lines."""
    lines = (re.sub(r"//.*", "", line).strip() for line in text.splitlines())
    return "\n".join(filter(None, lines)) + "\n"


def squeeze(text: str) -> str:
    """A compact text without spaces that no compiler needs, where leaving them out cannot join two words."""
    spaces = r"([,;{]) | (=|==|\+=|&&|\|\||<|\*|\?|\{) | ([-+/%>:]|>>|<<|[<>!]=) (?=[\w(])"
    lines = (line if line.startswith("#") else re.sub(spaces, r"\1\2\3", line) for line in text.splitlines())
    return "\n".join(lines) + "\n"


def header(libraries: tuple[str, ...], language: str) -> str:
    """Prelude and libraries, in order, as the text before a kernel. `tiles` and `mma` are a language's own."""
    texts = [squeeze(compact(source(f"prelude_{language}.h")))]
    for name in libraries:
        if name in OWN:
            texts.append(squeeze(compact(source(f"{name}_{language}.h"))))
        else:
            texts.append(render(source(f"{name}.msl"), language))
    return "".join(texts)


@cache
def source(name: str) -> str:
    """A file of `text/`."""
    return files(__package__).joinpath("text", name).read_text(encoding="utf-8")
