"""A stand-in for the library of NVIDIA's driver, made of standin_nvml.c; pynvml is real."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("standin_nvml.c")
LIBRARY = "libnvidia-ml.so.1"


@dataclass(frozen=True)
class Gpu:
    """What one says; None is what it does not know."""

    uuid: str
    name: str = "NVIDIA H100"
    watts: int | None = 100
    busy: tuple[int, int] | None = (37, 11)
    total_mib: int = 81024
    used_mib: int = 1024
    celsius: int = 41
    mhz: tuple[int, int] = (1980, 2619)
    reasons: int | None = 0

    def line(self) -> str:
        known = [*(self.busy or (-1, -1)), self.total_mib, self.used_mib, self.watts, self.celsius,
                 *self.mhz, self.reasons]  # fmt: skip
        return " ".join([self.uuid, *(str(-1 if x is None else x) for x in known), self.name])


def stand_in(folder: Path, *gpus: Gpu, old: bool = False) -> dict[str, str]:
    """Make it in a folder; the environment in which a process finds it, and these GPUs.

    `old`: as before driver 510. The test is skipped without a C compiler.
    """
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler (cc)")
    library = build(folder, *(["-DOLD_DRIVER"] if old else []))
    (folder / "gpus").write_text("".join(f"{gpu.line()}\n" for gpu in gpus))
    path = os.environ.get("LD_LIBRARY_PATH", "")
    return {
        "LD_LIBRARY_PATH": f"{library.parent}:{path}".rstrip(":"),
        "STANDIN_NVML": str(folder / "gpus"),
    }


def build(folder: Path, *options: str) -> Path:
    """Compile the library into a folder."""
    library = folder / LIBRARY
    named = f"-Wl,-soname,{LIBRARY}"
    command = ["cc", "-shared", "-fPIC", "-Wall", "-Werror", named, *options, "-o", library, SOURCE]
    subprocess.run(command, check=True)
    return library
