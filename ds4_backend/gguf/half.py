"""Rounding a super-block's unit to the f16 value that will be stored.

The encoders work on weights divided by their block's largest value; the file holds the unit of the weights themselves.
So rounding happens on the true value, and the search goes on with what the decoder will see. This file does not know
which format the unit belongs to.
"""

from __future__ import annotations

import numpy as np

TOP = np.float32(65504)  # the largest finite f16


def round_units(unit: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """unit·peak rounded to f16, divided by peak again; float32 [B] in and out.

    Held at the largest f16, so that a search never meets an infinity: a refinement may ask for a little more than
    fits, and its answer is then judged by its true error.
    """
    stored = np.minimum(unit * peak, TOP).astype(np.float16)
    return stored.astype(np.float32) / peak
