"""Where what draws keeps its caches: not in the home, which may be full or read-only."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAMES = ("MPLCONFIGDIR", "XDG_CACHE_HOME")


@contextmanager
def own_caches(beside: Path | None = None) -> Iterator[None]:
    """Have matplotlib's caches in a folder of their own for as long as the block takes, in `beside`
    or in that for temporary files; what the environment already says holds. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix="caches-", dir=beside) as folder:
        ours = [name for name in _NAMES if name not in os.environ]
        os.environ.update(dict.fromkeys(ours, folder))
        try:
            yield
        finally:
            for name in ours:
                del os.environ[name]
