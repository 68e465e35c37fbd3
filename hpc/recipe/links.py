"""Where the files of models are, if there are symbolic links on the way. Hugging Face's cache has
them so: snapshots/REVISION/NAME -> ../../blobs/DIGEST."""

from __future__ import annotations

import os
from pathlib import Path

from engines.models.gguf import other_parts

#: As many links as Linux follows for one path.
_MOST_LINKS = 40


def real_path(path: Path) -> Path:
    """An absolute path with all links followed, as far as that goes: they may lead in a circle."""
    try:
        return Path(os.path.realpath(path))
    except OSError:  # one of /proc, which may not be read
        return path.absolute()


def model_file(path: Path) -> Path:
    """Where the file of a model is in truth. The first of several keeps the name by which its
    engine finds the others, also if that is a link's: what a link leads to may be named otherwise.
    """
    named, target = real_path(path.parent) / path.name, real_path(path)
    others = other_parts(named)
    whole = all(map(os.path.exists, others))
    return named if others and (whole or not other_parts(target)) else target


def way_to(path: Path) -> list[Path]:
    """A file under all names that it has on the way to where it is in truth: a container that does
    not see the folder of one of them does not see the file."""
    way = []
    for _ in range(_MOST_LINKS):
        named = real_path(path.parent) / path.name
        way += [path, named]
        if not named.is_symlink():
            break
        path = Path(os.path.normpath(named.parent / named.readlink()))
    return [one for one in dict.fromkeys([*way, real_path(path)]) if one.parent.is_dir()]
