"""The parts of the client service; clientService.py has its routes.

`api` is what comes in and goes out, `ollama` asks the replicas, `compatible` speaks the APIs of
OpenAI and Anthropic in a process of its own; the rest is what the routes use. It imports contracts,
engines, retrieval, and of the load generator `load.child_process` alone.
"""
