"""What ends the exporters."""

from __future__ import annotations

from contracts.errors import OrchError


class ExporterError(OrchError):
    """A sentence for whoever started them."""
