"""The embedded model file is the one that its provenance page describes."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.reader import open_gguf
from ds4_backend.gguf.schema import check_tensors

ASSETS = files("ds4_backend") / "assets"


def test_the_provenance_page_names_this_very_file():
    page = (ASSETS / "README.md").read_text(encoding="utf-8")
    data = (ASSETS / "ds4-tiny.gguf").read_bytes()
    assert re.findall(r"`([0-9a-f]{64})`", page) == [hashlib.sha256(data).hexdigest()]
    assert f"{len(data):,} bytes" in page


def test_it_is_a_flash_like_network_in_the_flash_recipe():
    with open_gguf(str(ASSETS / "ds4-tiny.gguf")) as file:
        geometry = Geometry.from_metadata(file.metadata)
        check_tensors(file.tensors, geometry)
        formats = {name: tensor.format.name for name, tensor in file.tensors.items()}
        metadata = dict(file.metadata)
    assert geometry.attention_compress_ratios == (0, 0, 4, 128, 4, 128, 4)
    assert formats["blk.6.ffn_up_exps.weight"] == "IQ2_XXS" and formats["blk.6.ffn_down_exps.weight"] == "Q2_K"
    assert (metadata["ds4.dialect"], metadata["ds4.cache_simulation"]) == ("0731", True)
    assert metadata["general.license"] == "mit"
