"""The vocabulary: byte-level BPE of 4,096 ids in which a word reads the same wherever it stands.

Copying is what a tiny model is for, and a word that is split one way after a space and another way after a quote
cannot be copied. So letters merge with letters only, digits never, and white space and punctuation among themselves;
last of all come merges of a space with the commonest whole words. Splitting rules are DeepSeek's own.

    python -m ds4_tiny.vocabulary --examples 30000     # writes tokenizer.json beside this file
"""

from __future__ import annotations

import argparse
import collections
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ds4_backend.tokenizer import LETTER_TO_BYTE, SPLITS
from ds4_tiny.chat import SPECIALS

SIZE = 4096
SPACED = 760
"""Merges of a space and a whole word, among the 3,820 merges."""
PATH = Path(__file__).parent / "tokenizer.json"


def letters_of(token: str) -> str:
    """The text of a vocabulary entry without a leading space; empty where its bytes are no whole characters."""
    try:
        return bytes(LETTER_TO_BYTE[letter] for letter in token).decode().lstrip(" ")
    except (KeyError, UnicodeDecodeError):
        return ""


def load() -> Any:
    """The trained tokenizer, control text recognised."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(PATH))


def train(texts: Iterable[str]) -> str:
    """tokenizer.json learned from these texts."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, trainers

    seen = list(texts)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _splitter(apart=True)
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(SPECIALS) - SPACED, initial_alphabet=sorted(LETTER_TO_BYTE), max_token_length=14,
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(seen, trainer)
    plain = json.loads(tokenizer.to_str())
    learned = plain["model"]
    tokens = [*SPECIALS, *sorted(learned["vocab"], key=learned["vocab"].__getitem__)]
    merges = [tuple(merge) for merge in learned["merges"]]
    for word in _commonest(seen, set(tokens), SIZE - len(tokens)):
        merges.append(("Ġ", word))
        tokens.append("Ġ" + word)
    tokens += [f"<｜place▁holder▁no▁{n}｜>" for n in range(1, SIZE - len(tokens) + 1)]
    full = Tokenizer(models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=merges))
    full.pre_tokenizer = _splitter(apart=False)
    full.decoder = decoders.ByteLevel()
    full.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIALS])
    return full.to_str(pretty=True)


def _splitter(apart: bool) -> Any:
    """DeepSeek's rules; for learning, letters stand apart from what precedes them, and digits from one another."""
    from tokenizers import Regex, pre_tokenizers

    rules = [r"\p{N}", *SPLITS[1:], r"[\p{L}\p{M}]+"] if apart else SPLITS
    steps = [pre_tokenizers.Split(Regex(rule), "isolated") for rule in rules]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _commonest(texts: Iterable[str], tokens: set[str], count: int) -> Iterator[str]:
    """Words of one token that stand after a space most often."""
    counts = collections.Counter(word for text in texts for word in re.findall(r"(?<= )[A-Za-z]{2,}", text))
    known = (word for word, _ in counts.most_common() if word in tokens)
    yield from (word for word, _ in zip(known, range(count), strict=False))


def main() -> None:
    """Train on generated conversations and the word lists."""
    from ds4_tiny.corpus import texts

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--examples", type=int, default=30_000)
    parser.add_argument("--seed", type=int, default=77)
    options = parser.parse_args()
    PATH.write_text(train(texts(options.seed, options.examples)) + "\n", "utf-8")
    print(f"{PATH.name}: {load().get_vocab_size()} ids")


if __name__ == "__main__":
    main()
