"""The header's keys: the network's own, what llama.cpp and ds4 ask for beyond them, and where the file comes from.

It knows no tensors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ds4_backend.convert.recipe import FILE_TYPES
from ds4_backend.errors import ConversionError
from ds4_backend.gguf.geometry import ARCHITECTURE, Geometry


def model_metadata(geometry: Geometry) -> dict[str, Any]:
    """The `deepseek4.*` keys, with those that repeat others for llama.cpp (value_length, feed_forward_length)."""
    keys = geometry.to_metadata()
    keys[f"{ARCHITECTURE}.attention.value_length"] = geometry.attention_key_length
    keys[f"{ARCHITECTURE}.feed_forward_length"] = geometry.expert_feed_forward_length
    return keys


def general_metadata(folder: Path, config: Mapping[str, Any], recipe: str, size_label: str) -> dict[str, Any]:
    """The `general.*` keys. The licence is the model card's; without a card it is `unknown`."""
    repository = str(config.get("_name_or_path") or "")
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", repository)
    keys: dict[str, Any] = {
        "general.architecture": ARCHITECTURE,
        "general.type": "model",
        "general.name": repository.split("/")[-1] if hub else folder.resolve().name,
        "general.size_label": size_label,
        "general.license": card_license(folder),
        "general.file_type": FILE_TYPES[recipe],
        "general.quantization_version": 2,
    }
    return keys | ({"general.source.huggingface.repository": repository} if hub else {})


def sampling_metadata(folder: Path) -> dict[str, Any]:
    """The `general.sampling.*` keys: what the checkpoint's generation_config.json advises, `do_sample: false` being
    temperature 0. None without that file.

    Raises ConversionError where the file is no JSON object, or advises something that is no number.
    """
    path = folder / "generation_config.json"
    if not path.exists():
        return {}
    try:
        advice = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        advice = None
    if not isinstance(advice, dict):
        raise ConversionError(f"{path} is no JSON object; download it again, or remove it")
    if advice.get("do_sample") is False:
        return {"general.sampling.temp": 0.0}
    keys = {
        "temperature": ("temp", float),
        "top_p": ("top_p", float),
        "top_k": ("top_k", int),
        "min_p": ("min_p", float),
    }
    chosen = {name: advice[name] for name in keys if advice.get(name) is not None}
    for name, value in chosen.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConversionError(f"{path}: {name} is {value!r}; it should be a number")
    return {f"general.sampling.{keys[name][0]}": keys[name][1](value) for name, value in chosen.items()}


def source_metadata(folder: Path, recipe: str, imatrix: Path | None) -> dict[str, Any]:
    """The `ds4.source.*` keys: who made this file, from what, and how. Names only, no paths."""
    from ds4_backend import __version__

    keys = {
        "ds4.source.tool": f"ds4-backend {__version__}",
        "ds4.source.recipe": recipe,
        "ds4.source.folder": folder.resolve().name,
    }
    return keys | ({"ds4.source.imatrix": imatrix.name} if imatrix else {})


def imatrix_metadata(imatrix: Path, entries: int, chunks: int, dataset: str) -> dict[str, Any]:
    """The `quantize.imatrix.*` keys, as llama.cpp writes them."""
    keys = {
        "quantize.imatrix.file": imatrix.name,
        "quantize.imatrix.entries_count": np.uint64(entries),
        "quantize.imatrix.chunks_count": np.uint64(chunks),
    }
    return keys | ({"quantize.imatrix.dataset": dataset} if dataset else {})


def card_license(folder: Path) -> str:
    """`license:` of the model card's front matter (README.md), or `unknown`."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8", errors="replace") if card.exists() else ""
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:\s*['\"]?([\w.+-]+)", front[1], re.MULTILINE) if front else None
    return found[1] if found else "unknown"


def size_label(shapes: Mapping[str, tuple[int, ...]], expert_count: int) -> str:
    """Experts times parameters of a model with one expert each, such as `256x8.4B` (gguf's naming convention)."""
    from gguf.utility import size_label as label

    counts = {name: int(np.prod(shape, dtype=np.int64)) for name, shape in shapes.items()}
    routed = sum(count for name, count in counts.items() if name.endswith("_exps.weight")) // expert_count
    dense = sum(count for name, count in counts.items() if not name.endswith("_exps.weight"))
    return label(sum(counts.values()), dense, routed, expert_count)
