"""Asking the deployment's engine, Ollama as a rule, through the door, and each replica how it is.

It imports contracts, engines, and of the client service engine_apis, bodies, answers, door, errors,
settings and metrics.
"""
