"""What ends the exporters."""

from __future__ import annotations


class ExporterError(Exception):
    """A sentence for whoever started them."""
