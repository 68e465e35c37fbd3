"""Telling somebody else of the deployment: `python -m client.notify`, which the client's job runs.
It needs the standard library alone, and nothing of the service."""
