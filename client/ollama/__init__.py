"""Asking the deployment's Ollama: which replica, over which connection, and what came of it.

It imports contracts, engines, and of the client service bodies, answers, errors, settings and
metrics.
"""
