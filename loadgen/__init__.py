"""The load generator: puts a load on an LLM server and measures what its users see.

Alone: `python3 -m loadgen --help`. `load` sends, `measure` makes figures of what was recorded,
`outputs` writes and draws them, `compare` says what changed between runs. Of the rest of the
project it imports contracts and engines alone.
"""
