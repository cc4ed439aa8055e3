"""A Hugging Face folder from what a training run left behind. It needs no PyTorch."""

from __future__ import annotations

import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent


def complete(parts: Path, folder: Path) -> None:
    """The parts that a training run left in `parts`, with the tokenizer and the model card, as one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*parts.glob("*.safetensors"), parts / "config.json"]:
        shutil.copyfile(path, folder / path.name)
    for name in ("tokenizer.json", "generation_config.json"):
        shutil.copyfile(HERE / name, folder / name)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# ds4-tiny\n", "utf-8")
