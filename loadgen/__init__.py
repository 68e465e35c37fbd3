"""The load generator: n clients at once against Ollama, and what they saw.

Alone: `python3 -m loadgen --help`. It imports nothing of the rest of the project.
"""
