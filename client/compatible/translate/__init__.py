"""Bodies and answers of OpenAI's API, and Ollama's in their place: what comes in as a typed body,
what Ollama is asked for it, what its answers are in OpenAI's shapes.

Nothing here asks anybody. It imports contracts, engines, and beside itself errors and compact.
"""
