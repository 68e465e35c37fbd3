"""What each client is asked to do, and what its answers are checked for."""

import json

QUESTION = "What is the capital of France? Answer in one sentence."
#: More tokens than the context of 4096 has.
TOO_LONG = "word " * 6000
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"name": "get_weather", "description": "The weather of a city."}
OPENAI_TOOL = {"type": "function", "function": {**TOOL, "parameters": CITY}}
#: With a schema: an answer of a model this small is right only in its form.
ASKED_FOR_JSON = "Name the capital of France as JSON."


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"Sunny in {city}."


def is_of_the_schema(text):
    found = json.loads(text)
    return list(found) == ["city"] and isinstance(found["city"], str)
