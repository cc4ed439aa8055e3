"""Which block format each tensor gets.

The recipes q2, q4 and q8 differ in the routed experts alone; the rest is the fixed list that ds4 demands of its files
(and llama.cpp accepts). It knows tensor names and widths, no data.
"""

from __future__ import annotations

from dataclasses import dataclass

from ds4_backend.convert.names import ROUTED, gguf_leaf

ROUTED_FORMATS = {
    "q8": ("Q8_0", "Q8_0"),
    "q4": ("Q4_K", "Q4_K"),
    "q2": ("IQ2_XXS", "Q2_K"),
    "mxfp4": ("MXFP4", "MXFP4"),
}
"""Recipe -> formats of the routed gate/up and of the routed down matrices."""

RECIPES = ("f32", "f16", *ROUTED_FORMATS)
FILE_TYPES = {"f32": 0, "f16": 1, "q8": 7, "q4": 15, "q2": 19, "mxfp4": 38}
"""`general.file_type`, llama.cpp's numbers for "mostly this format"."""

_EIGHT_BIT = {
    "output.weight",
    "attn_q_a.weight",
    "attn_q_b.weight",
    "attn_kv.weight",
    "attn_output_a.weight",
    "attn_output_b.weight",
    "ffn_gate_shexp.weight",
    "ffn_up_shexp.weight",
    "ffn_down_shexp.weight",
}
_WIDTHS = {"IQ2_XXS": 256, "Q2_K": 256, "Q4_K": 256, "Q8_0": 32, "MXFP4": 32}
"""Inputs per block: a row must be a whole number of blocks."""


@dataclass(frozen=True, slots=True)
class Fallback:
    """A tensor whose rows the recipe's format cannot hold."""

    name: str
    width: int
    wanted: str
    used: str

    def __str__(self) -> str:
        blocks = f"{self.wanted} blocks of {_WIDTHS[self.wanted]}"
        return f"{self.name}: rows of {self.width} are no whole number of {blocks}; stored as {self.used}"


def wanted_format(gguf_name: str, shape: tuple[int, ...], recipe: str) -> str:
    """The format that the recipe gives a tensor, before looking at its width."""
    leaf = gguf_leaf(gguf_name)
    if leaf == "ffn_gate_tid2eid.weight":
        return "I32"
    if len(shape) == 1 or recipe == "f32":
        return "F32"
    if recipe == "f16":
        return "F16"
    if leaf in ROUTED:
        return ROUTED_FORMATS[recipe][leaf == "ffn_down_exps.weight"]
    return "Q8_0" if leaf in _EIGHT_BIT else "F16"


def choose_format(gguf_name: str, shape: tuple[int, ...], recipe: str) -> tuple[str, Fallback | None]:
    """The format a tensor gets, and what was given up for it when its rows are no whole number of blocks."""
    wanted, width = wanted_format(gguf_name, shape, recipe), shape[-1]
    used = wanted
    if width % _WIDTHS.get(used, 1):
        used = "F16" if width % _WIDTHS["Q8_0"] else "Q8_0"
    return used, None if used == wanted else Fallback(gguf_name, width, wanted, used)
