"""The project's version, as pyproject.toml and `orch.py --version` have it."""

VERSION = "0.2.0"
