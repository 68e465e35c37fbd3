"""Container images for the tests, none of which needs a registry."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from project import HOME, USER, Project, pip_settings
from slurmcluster import ClusterError

#: Where Debian and most images have them, in one file.
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
CLIENT, LLAMACPP = "client_service.sif", "llamacpp.sif"
GET_IMAGES = Path(__file__).parent / "get_images.sh"


class Images:
    """Images in a folder that the hosts see and the user can read."""

    def __init__(self, project: Project) -> None:
        built = subprocess.run(
            [GET_IMAGES, project.folder / ".tools" / "bin" / "ollama"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode != 0:
            raise ClusterError(f"there are no images: {built.stderr}")
        self.folder = HOME / "images"
        self.folder.mkdir(exist_ok=True)
        shutil.chown(self.folder, USER, USER)
        #: Debian with Python and its venv module.
        base, ollama, monitoring = map(Path, built.stdout.split()[-3:])
        self.base = self._bring(base, "base.sif")
        #: The same with Ollama.
        self.ollama = self._bring(ollama, "ollama.sif")
        #: The same with Prometheus, Pushgateway and node exporter.
        self.monitoring = self._bring(monitoring, "monitoring.sif")
        # of an earlier run, from other sources
        for name in (CLIENT, LLAMACPP):
            (self.folder / name).unlink(missing_ok=True)
        self._project = project

    def _bring(self, image: Path, name: str) -> Path:
        target = self.folder / name
        shutil.copyfile(image, target)
        target.chmod(0o644)
        return target

    def client(self) -> Path:
        """The client service's image, built by the user on the machine, which has a way out."""
        return self._build(
            CLIENT, "client_service.def", "BOOTSTRAP=localimage", f"FROM={self.base}"
        )

    def llamacpp(self) -> Path:
        """One that is laid out as llama.cpp's own."""
        places = f"BASE={self.base}", f"PROJECT={self._project.folder}"
        return self._build(LLAMACPP, "tests/cluster/images/llamacpp.def", *places)

    def _build(self, name: str, definition: str, *arguments: str) -> Path:
        target = self.folder / name
        if not target.exists():
            build = [word for pair in arguments for word in ("--build-arg", pair)]
            command = ["apptainer", "build", "--disable-cache", *build, target, definition]
            result = subprocess.run(
                ["runuser", "-u", USER, "--", "env", "-i", *build_settings(), *command],
                cwd=self._project.folder, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if result.returncode != 0:
                raise ClusterError(f"{name} cannot be built: {result.stderr[-2000:]}")
        return target


def build_settings() -> list[str]:
    """Environment of an image's build: in it pip finds this machine's mirrors and certificates.

    Apptainer hands a variable APPTAINERENV_X to the definition's %post as X. A certificate takes
    the place of the image's own: what is not in an image cannot be bound there while it is built.
    """
    settings = dict(pair.split("=", 1) for pair in pip_settings())
    bound = {}
    for name, value in list(settings.items()):
        if Path(value).is_file():
            settings[name] = CERTIFICATES
            bound[value] = CERTIFICATES
        elif value.startswith("/"):
            del settings[name]  # a folder of the machine
    return [
        f"HOME={HOME}",
        "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "APPTAINER_MKSQUASHFS_ARGS=-Xcompression-level 1",  # most of a build is the compression
        f"APPTAINER_BIND={','.join(f'{file}:{inside}' for file, inside in bound.items())}",
        *(f"APPTAINERENV_{name}={value}" for name, value in settings.items()),
    ]
