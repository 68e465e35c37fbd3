"""The site profile: where to deploy. What differs between clusters and is nobody's recipe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, create_model

from contracts.errors import UsageError
from contracts.files import PROJECT, read_json_strictly
from contracts.validation import SchemaAddress
from engines.servers.deployable import DEPLOYED
from hpc.recipe.notify import NOTIFY, Notify, check_line
from hpc.recipe.sections import (
    LEVELS,
    MOST_SHARED,
    REPLICAS,
    SHARE,
    STAGING,
    TLS,
    Access,
    Section,
    Staging,
)
from hpc.recipe.values import Name, Partitions, ReplicasPerNode, Shared, one_of
from hpc.recipe.words import validate
from hpc.scheduler.registry import SCHEDULERS, present

SITES_DIR = PROJECT / "sites"


def _check_directive(text: str) -> str:
    if not text.startswith("--"):
        raise ValueError("must start with '--', as an option of sbatch does")
    return check_line(text)


def _check_folder(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("must be an absolute path")
    return check_line(text)


def _check_disk(text: str) -> str:
    if re.fullmatch(r"\$[A-Za-z_][A-Za-z0-9_]*", text):
        return text
    if set(text) & set(":,"):
        raise ValueError("must have no ':' and ',', at which containers split it")
    return _check_folder(text)


def _check_gpu_request(text: str) -> str:
    if text and text.count("{n}") != 1:
        raise ValueError("must contain {n}, the number of GPUs per node, once; or be empty")
    return _check_directive(text) if text else text


SchedulerName = Annotated[
    str,
    BeforeValidator(lambda value: one_of(value, SCHEDULERS)),
    WithJsonSchema({"enum": list(SCHEDULERS), "type": "string"}),
]
GpuMemory = Annotated[float, Field(ge=1, le=10_000)]
Line = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(check_line)]
Folder = Annotated[str, Field(max_length=1000), AfterValidator(_check_folder)]
LocalDisk = Annotated[str, Field(max_length=1000), AfterValidator(_check_disk)]
Directive = Annotated[str, Field(max_length=1000), AfterValidator(_check_directive)]


def _check_image(text: str) -> str:
    """A .sif file, or a registry's address with a version that stays what it is."""
    if text.endswith(".sif"):
        return _check_folder(text)
    transport, separator, name = text.partition("://")
    if not separator or transport not in ("docker", "oras", "library", "shub"):
        raise ValueError("must be the path of a .sif file or begin with docker://, oras://, …")
    version = name.rpartition("/")[2].partition("@")[2] or name.rpartition("/")[2].partition(":")[2]
    if not version or version == "latest":
        raise ValueError("must name a version (such as :0.17.4 or @sha256:…), and not 'latest'")
    return check_line(text)


Image = Annotated[str, Field(max_length=1000), AfterValidator(_check_image)]


class _Images(Section):
    """Container images: each the path of a `.sif` file, or a registry's address with a version."""

    client: Image | None = Field(
        None,
        description="The client service. Default: built from `client_service.def` on `python`.",
    )
    python: Image = Field(
        "docker://python:3.12-slim",
        description="What `client_service.def` builds on: any Linux with Python 3.10 or newer, "
        "with its `venv` module and HAProxy (on Debian and Ubuntu that is added).",
    )
    qdrant: Image | None = Field(
        "docker://qdrant/qdrant:v1.16.0",
        description="Qdrant, of 1.16 or newer. `null`: the client service keeps the points itself.",
    )
    prometheus: Image | None = Field(
        "docker://prom/prometheus:v2.53.4", description="Prometheus. `null`: there is none."
    )
    pushgateway: Image | None = Field(
        "docker://prom/pushgateway:v1.11.0", description="Pushgateway. `null`: there is none."
    )
    grafana: Image | None = Field(
        "docker://grafana/grafana:11.6.0", description="Grafana. `null`: there is none."
    )
    node_exporter: Image | None = Field(
        "docker://prom/node-exporter:v1.9.0", description="Node exporter. `null`: there is none."
    )
    dcgm_exporter: Image | None = Field(
        "docker://nvcr.io/nvidia/k8s/dcgm-exporter:3.3.5-3.4.1-ubuntu22.04",
        description="NVIDIA's DCGM exporter. `null`: its driver is asked instead.",
    )


if TYPE_CHECKING:

    class Images(_Images):
        """With one for each engine."""
else:
    Images = create_model(
        "Images",
        __base__=_Images,
        __doc__=_Images.__doc__,
        **{
            one.service: (Image, Field(one.image, description=f"{one.title}."))
            for one in DEPLOYED.values()
        },
    )


class Proxy(Section):
    """Proxies that compute nodes need to reach the internet (for pulling a model)."""

    http: Line | None = Field(None, description="Value of http_proxy.")
    https: Line | None = Field(None, description="Value of https_proxy.")


class Site(Section):
    """One cluster, or one's own machine."""

    schema_: SchemaAddress = None
    name: Name = Field(description="Name of the site, for records and reports.")
    scheduler: SchedulerName = Field(description="What runs the jobs.")
    runtime: Literal["host", "apptainer", "singularity"] = Field(
        "host",
        description="What runs the services: `host` takes binaries from PATH and orch's own "
        "Python environment, the others run them from `images`.",
    )
    images: Images = Field(
        default_factory=lambda: Images(), description="Where the container runtimes' images are."
    )
    gpu_partitions: list[Partitions] = Field(
        default_factory=list,
        description="Partitions whose nodes have GPUs; the first one is the default of the "
        "Ollama job. If both lists are empty, `sinfo` is asked.",
    )
    cpu_partitions: list[Partitions] = Field(
        default_factory=list,
        description="Partitions without GPUs; the first one is the default of the client's job.",
    )
    account: Name | None = Field(None, description="Default account.")
    qos: Name | None = Field(None, description="Default quality of service.")
    gpu_request: Annotated[str, Field(max_length=200), AfterValidator(_check_gpu_request)] = Field(
        "--gres=gpu:{n}",
        description="How N GPUs per node are asked for: `--gres=gpu:{n}`, `--gres=gpu:a100:{n}`, "
        "`--gpus-per-node={n}`, or nothing if nodes are given whole.",
    )
    gpu_vendor: Literal["nvidia", "amd", "none"] = Field(
        "nvidia",
        description="Whose GPUs they are: containers get them by `--nv` or `--rocm`, and a replica "
        "its own by `CUDA_VISIBLE_DEVICES` or `ROCR_VISIBLE_DEVICES`. `none`: no GPU is asked for.",
    )
    replicas_per_node: ReplicasPerNode | None = Field(
        None,
        description=f'{REPLICAS} A recipe may say otherwise; `"per_gpu"` is for recipes with GPUs. '
        "Default: 1.",
    )
    gpu_mem_gb: GpuMemory | dict[Name, GpuMemory] | None = Field(
        None,
        description="Memory of one GPU in GiB, as nvidia-smi has it (its MiB / 1024): a number, or "
        '`{"PARTITION": number}` where partitions have different ones. By it the plan says whether '
        "a model fits (docs/memory.md).",
    )
    model_store: Folder | None = Field(
        None,
        description="Folder of models that others keep, as compute nodes see it, which is read and "
        "never written: manifests and blobs as Ollama has them, GGUF files. What is whole there is "
        "not fetched (docs/models.md).",
    )
    staging: Staging | None = Field(
        None, description=f"{STAGING} A recipe may say otherwise. Default: `none`."
    )
    local_disk: LocalDisk = Field(
        "$TMPDIR",
        description="The nodes' own disk, for `staging`: a folder that is there on each node, or a "
        "variable of jobs that says it (`$NAME`). Default: `$TMPDIR`, else `/tmp`.",
    )
    directives: list[Directive] = Field(
        default_factory=list, description="Further options of sbatch for every job."
    )
    modules: list[Line] = Field(
        default_factory=list, description="Arguments of `module load`, one line each, in order."
    )
    interface: Annotated[str, Field(pattern=r"^[A-Za-z0-9._@-]{1,15}$")] | None = Field(
        None,
        description="Network interface whose address the services publish. Default: the one "
        "that routes to the host that orch runs on.",
    )
    security: Access | None = Field(
        None,
        description=f"Who reaches the engines if a recipe does not say it. {LEVELS} Default: "
        "`required` on a cluster, `token` on one's own machine.",
    )
    tls: bool | None = Field(
        None, description=f"{TLS} A recipe may say otherwise. Default: `false`."
    )
    share: list[Shared] | None = Field(
        None,
        max_length=MOST_SHARED,
        description=f"{SHARE} A recipe may say otherwise. Default: nobody.",
    )
    munge_socket: Annotated[str, Field(pattern=r"^/[!-~]{1,100}$")] | None = Field(
        None, description="Socket of MUNGE's daemon, for `share`. Default: MUNGE's own."
    )
    notify: Notify | None = Field(
        None, description=f"{NOTIFY} A recipe may say otherwise. Default: nobody."
    )
    proxy: Proxy = Field(
        default_factory=lambda: Proxy(), description="Proxies of the compute nodes."
    )

    @property
    def store(self) -> Path | None:
        """The folder of models that others keep."""
        return None if self.model_store is None else Path(self.model_store)

    def gpu_memory(self, partition: str | None) -> int | None:
        """Bytes of one GPU in a partition, or in that of several that has the smallest; None if the
        profile does not say it."""
        if not isinstance(self.gpu_mem_gb, dict):
            gib = self.gpu_mem_gb
        else:
            names = partition.split(",") if partition else []
            known = [self.gpu_mem_gb[name] for name in names if name in self.gpu_mem_gb]
            gib = min(known) if known and len(known) == len(names) else None
        return None if gib is None else int(gib * 2**30)


def load_site(name: str | None) -> Site:
    """The site `name`: a profile in sites/, or the path of one; None chooses.

    The choice is the profile of the first scheduler that is present: Slurm if sbatch is on PATH,
    else this machine.
    Raises UsageError if there is no such profile or it is wrong.
    """
    if name is None:
        name = present()
    path = Path(name) if name.endswith(".json") or "/" in name else SITES_DIR / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(profile.stem for profile in SITES_DIR.glob("*.json")))
        raise UsageError(
            f"there is no site profile {name!r}; use one of {known}, or the path of a .json file."
        )
    return validate(Site, read_json_strictly(path, "site profile"), f"site profile {path}")
