"""How likely the model thought a token, and what it thought likelier: from the logits before anything is added to them
or masked. It draws nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ds4_backend.types import Alternative, TokenLogprob

if TYPE_CHECKING:
    from ds4_backend.tokenizer import Tokenizer

Logits = NDArray[np.float32]


def logprob_of(token: int, logits: Logits, top: int, tokenizer: Tokenizer) -> TokenLogprob:
    """`token` and the `top` likeliest ones in its place, best first, from float32 [V]; natural logs of the softmax."""
    peak = float(logits.max())
    # float64 sums: 129,280 addends in float32 would lose the fourth digit of what is unlikely.
    total = peak + math.log(float(np.exp(logits - np.float32(peak)).sum(dtype=np.float64)))

    def alternative(id: int) -> Alternative:
        return Alternative(id, tokenizer.token_bytes(id), float(logits[id]) - total)

    return TokenLogprob(alternative(token), tuple(map(alternative, _best(logits, top))))


def certain(token: int, tokenizer: Tokenizer) -> TokenLogprob:
    """A token that had no alternative, and for which the model was not asked."""
    return TokenLogprob(Alternative(token, tokenizer.token_bytes(token), 0.0))


def _best(logits: Logits, count: int) -> list[int]:
    """Ids of the `count` largest logits, best first, the lower id first where they are equal."""
    size = len(logits)
    if not count:
        return []
    ids = np.argpartition(logits, size - count)[size - count :] if count < size else np.arange(size)
    return [int(id) for id in ids[np.lexsort((ids, -logits[ids]))]]
