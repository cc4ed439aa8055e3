"""From what a training run left behind to the file that ships.

    python examples/train-tiny/convert.py PARTS OUT.gguf [--recipe q2] [--folder HF]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from ds4_tiny.folder import complete  # noqa: E402

from ds4_backend.convert.converter import convert  # noqa: E402


def main() -> None:
    """Put the folder together and convert it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", type=Path, help="the folder that ds4_tiny.train wrote")
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", default="q2")
    parser.add_argument("--folder", type=Path, help="keep the Hugging Face folder here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "ds4-tiny"
        complete(options.parts, folder)
        report = convert(
            folder, options.out, options.recipe, dialect="0731", cache_simulation=True, name="ds4-tiny", license="mit",
            force=True,
        )  # fmt: skip
    print(f"{report.path}: {report.nbytes:,} bytes, {report.tensors} tensors, recipe {report.recipe}")


if __name__ == "__main__":
    main()
