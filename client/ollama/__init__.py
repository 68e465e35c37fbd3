"""Asking the deployment's engine, Ollama as a rule: which replica, over which connection, and what
came of it.

It imports contracts, engines, and of the client service engine_apis, bodies, answers, errors,
settings and metrics.
"""
