"""Shared code of the orchestration: recipe, site, scheduler, rendering, waiting, records."""
