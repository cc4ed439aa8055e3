"""Questions with known answers, for models trained on ds4-tiny's kinds of conversation. They run no model."""

from __future__ import annotations

from quality_tasks.case import Answer, Case, transcript
from quality_tasks.families import FAMILIES, cases

__all__ = ["FAMILIES", "Answer", "Case", "cases", "transcript"]
