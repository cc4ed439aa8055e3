from __future__ import annotations

import numpy as np
import pytest

from ds4_backend.engine.thinking import ThinkingBudget

CLOSE, OTHER = 7, 3


def row(better: int) -> np.ndarray:
    """Logits with so many tokens that are likelier than `</think>`."""
    logits = np.full(10, -5, np.float32)
    logits[CLOSE] = 0
    logits[[0, 1, 2, 3, 4][:better]] = 1
    return logits


def closed_after(budget: ThinkingBudget, better: int) -> int:
    """Tokens of thinking that a model writes whose logits are always the same and that never closes by itself."""
    tokens = 0
    while not budget.closes(row(better)):
        assert tokens < 10_000
        budget.accept(OTHER)
        tokens += 1
    return tokens


@pytest.mark.parametrize(
    "asked, opens_at, closes_at",
    [(0, 0, 0), (1, 1, 17), (20, 20, 36), (100, 100, 125), (1000, 1000, 1250), (2048, 2048, 2560), (9000, 9000, 9512)],
)
def test_the_window_is_a_quarter_of_the_budget(asked, opens_at, closes_at):
    budget = ThinkingBudget(asked, CLOSE, 1 << 20)
    assert (budget.opens_at, budget.closes_at) == (opens_at, closes_at)


@pytest.mark.parametrize("better, closed", [(0, 100), (2, 100), (3, 125), (5, 125)])
def test_in_the_window_the_thinking_closes_once_its_end_is_among_the_three_likeliest(better, closed):
    assert closed_after(ThinkingBudget(100, CLOSE, 10_000), better) == closed


@pytest.mark.parametrize(
    "max_tokens, reserve, closed", [(10_000, 512, 9488), (2048, 512, 1536), (400, 100, 300), (10, 2, 8), (1, 0, 1)]
)
def test_some_of_the_answer_is_kept_for_the_visible_text(max_tokens, reserve, closed):
    budget = ThinkingBudget(1 << 20, CLOSE, max_tokens)
    assert budget.reserve == reserve
    assert closed_after(budget, 5) == closed


def test_nothing_is_closed_twice():
    budget = ThinkingBudget(2, CLOSE, 1000)
    budget.accept(OTHER)
    budget.accept(CLOSE)  # by the model itself
    for _ in range(100):
        assert not budget.closes(row(0))
        budget.accept(OTHER)
    assert budget.spent == 1


def test_a_budget_of_nothing_closes_at_once():
    assert closed_after(ThinkingBudget(0, CLOSE, 1000), 5) == 0
