from __future__ import annotations

import pytest

from ds4_backend.engine.grammar.patterns import anchored, translated, unanchored


@pytest.mark.parametrize(
    "pattern, said",
    [
        ("abc", "abc"),
        (r"\d+\.\w*", r"[0-9]+\.[A-Za-z0-9_]*"),
        (r"[\d\-x]", r"[0-9\-x]"),
        (r"[^\w]", "[^A-Za-z0-9_]"),
        (r"[[&~]", r"[\[\&\~]"),
        (r"[\]a]", r"[\]a]"),
        (r"\\d", r"\\d"),
        (r"\[\d", r"\[[0-9]"),
    ],
)
def test_classes_mean_what_they_mean_in_ecmascript(pattern, said):
    assert translated(pattern) == said


@pytest.mark.parametrize(
    "pattern, said",
    [
        ("a", "(?s:.*)(?:a)(?s:.*)"),
        ("^a", "(?:a)(?s:.*)"),
        ("a$", "(?s:.*)(?:a)"),
        (r"^a\$", r"(?:a\$)(?s:.*)"),
        (r"^a\\$", r"(?:a\\)"),
        ("^a$|b", "(?:a)|(?s:.*)(?:b)(?s:.*)"),
        ("^(a|b)$", "(?:(a|b))"),
        ("^[|]$", "(?:[|])"),
    ],
)
def test_a_pattern_is_looked_for_anywhere_unless_anchored(pattern, said):
    assert anchored(pattern) == said


def test_anchors_of_a_whole_text_say_nothing():
    assert unanchored("^a$|b") == "(?:a)|(?:b)"
