"""From a Hugging Face checkpoint to one GGUF file: `convert`, and importance matrices for it.

`collect.collect` makes such a matrix; its module is imported by name, as it runs a model.
"""

from __future__ import annotations

from ds4_backend.convert.converter import Report, convert
from ds4_backend.convert.imatrix import Imatrix, read_imatrix, write_imatrix
from ds4_backend.convert.recipe import RECIPES

__all__ = ["RECIPES", "Imatrix", "Report", "convert", "read_imatrix", "write_imatrix"]
