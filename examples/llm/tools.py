"""Tools for llm: `llm --functions examples/llm/tools.py ...` makes every function here callable by the model."""

WEATHER = {"sf": "sunny and 18 degrees", "oslo": "rainy and 9 degrees"}


def get_weather(city: str) -> str:
    """Get the current weather"""
    return WEATHER.get(city.lower(), "cloudy and 12 degrees")


def add(a: int, b: int) -> int:
    """Add two numbers"""
    return a + b
