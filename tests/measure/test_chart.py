"""The picture: valid SVG, points where they belong, names that cannot break it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from ds4_backend.measure.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Line, Panel, svg


def test_a_chart_is_well_formed_and_spans_its_axes():
    text = svg([Panel("a < b & c", "x", [Line("one", [(0, 0), (50, 40), (100, 100)]), Line("two", [(10, 90)])])])
    root = ElementTree.fromstring(text)
    assert root.attrib["height"] == str(HEIGHT)
    (path,) = re.findall(r'points="([\d., ]+ [\d., ]+)"', text)
    first, _, last = path.split()
    assert first == f"{LEFT:.1f},{HEIGHT - BOTTOM:.1f}" and last == f"{WIDTH - RIGHT:.1f},{TOP:.1f}"
    assert text.count("<circle") == 4 and "a &lt; b &amp; c" in text


def test_axes_end_at_round_numbers_above_the_largest_value():
    text = svg([Panel("t", "x", [Line("one", [(32768, 33.9), (2048, 12.0)])]), Panel("empty", "x", [])])
    labels = re.findall(r">([\d.]+k?)</text>", text)
    assert "50" in labels and "50k" in labels
    assert ElementTree.fromstring(text).attrib["height"] == str(2 * HEIGHT)
