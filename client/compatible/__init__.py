"""The APIs of OpenAI and Anthropic in front of an Ollama, by Ollama's own routes, or of an engine
that speaks them itself (`passing`): a process of its own, which has no state but its connections.
`python -m client.compatible --help` says how it is started.

Ollama's own /v1 cuts prompts and drops what it does not know without a word; here each request is
read whole or refused by name. Tokens, balance and queues are the business of what stands in front
and behind. It imports contracts, engines, and of the client service its time limits.
"""
