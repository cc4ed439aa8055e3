"""The tools of the relay, declared once: llm reads this file, the other hosts get the functions."""

from __future__ import annotations


def get_weather(city: str) -> str:
    """Get the current weather"""
    return {"sf": "sunny and 18 degrees"}.get(city.lower(), "cloudy and 12 degrees")


def add(a: int, b: int) -> int:
    """Add two numbers"""
    return a + b
