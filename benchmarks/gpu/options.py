"""What every part is told: the file, the geometry, the ops, and its seconds."""

from __future__ import annotations

import argparse
from pathlib import Path

from ds4_backend.gguf.geometry import Geometry
from ds4_backend.gguf.shapes import GEOMETRIES, first_layers


def read() -> argparse.Namespace:
    """The command line, as run.py writes it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--geometry", default="flash")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--recipe", default="q2")
    parser.add_argument("--ops", default="cuda")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script itself")
    parser.add_argument("--worker", help="of the layers: which of how many processes this is")
    parser.add_argument("--out", type=Path, help="of a worker: where its results go")
    return parser.parse_args()


def geometry(options: argparse.Namespace) -> Geometry:
    """The geometry asked for, cut after `--layers`."""
    whole = GEOMETRIES[options.geometry]
    return first_layers(whole, options.layers or whole.block_count)
