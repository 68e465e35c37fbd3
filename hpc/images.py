"""Container images: where each comes from, and what tells one version of it from another."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import UsageError
from contracts.files import PROJECT
from engines.servers.deployed import Deployed
from hpc.site import Site

DEFINITION = "client_service.def"
#: What client_service.def puts into its image.
_APP = (
    "requirements.lock",
    "clientService.py",
    "client",
    "contracts",
    "ledger",
    "batch",
    "engines",
    "loadgen",
    "exporters",
    "retrieval",
)


@dataclass(frozen=True)
class Image:
    """An image of a service.

    `source` is a .sif file or a registry's address; with a `definition` it is what that builds on.
    `stamp` differs for whatever may not be taken for the same image.
    """

    source: str
    stamp: str
    definition: str = ""


def check_bindable(path: Path) -> None:
    """Raise UsageError if a container cannot be given this path: --bind splits at , and :."""
    if set(",:") & set(str(path)):
        raise UsageError(
            f"a container cannot be given {path}: its name has a ',' or ':'; choose "
            "another one, or a site profile whose runtime is 'host'."
        )


def image_of(source: str) -> Image:
    """An image that is taken as it is."""
    return Image(source, _stamp(source.encode()))


def engine_image(site: Site, engine: Deployed) -> Image:
    """An engine's image at `site`."""
    return image_of(getattr(site.images, engine.service, engine.image))


def client_image(site: Site) -> Image:
    """The client service's image: the site's own, or the one that client_service.def makes."""
    if site.images.client:
        return image_of(site.images.client)
    if site.runtime == "host":  # there is none, whose files would have to be read
        return image_of(site.images.python)
    parts = [site.images.python.encode(), (PROJECT / DEFINITION).read_bytes()]
    parts += [path.read_bytes() for path in _app_files()]
    return Image(site.images.python, _stamp(*parts), DEFINITION)


def _app_files() -> list[Path]:
    found: list[Path] = []
    for path in (PROJECT / name for name in _APP):
        found += _files_below(path) if path.is_dir() else [path]
    return found


def _files_below(folder: Path) -> list[Path]:
    """Also templates and style sheets; not what Python makes of its files."""
    every = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in every if "__pycache__" not in path.parts)


def _stamp(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]
