"""Exporters for what has none: Ollama, and GPUs if NVIDIA's DCGM exporter cannot run.

One small process beside each Ollama: `python3 -m exporters --help`. It imports contracts and
engines.
"""
