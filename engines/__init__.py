"""What one must know of an LLM server to ask one: each engine in a module that fills the interface
of engines/engine.py, all by name in engines/registry.py; `http` is what all of them need of HTTP,
`servers` what it takes to start their servers.

Whoever talks to a server imports from here. It imports contracts alone.
"""
