"""Where a run's figures come from, as the pages say it: deployment, images, model, load."""

from __future__ import annotations

import json
from collections.abc import Sequence

from contracts.json_object import JsonObject
from contracts.summary import Summary
from engines.json_values import number_of, text_of
from loadgen.outputs.formatting import (
    every,
    find,
    lookup,
    number,
    part,
    text,
    when,
)


def fact_groups(
    summary: Summary, origin: JsonObject, load: str
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return groups of facts by name; what is not known is n/a. `origin`: the provenance, of a run
    or of the sweep that it begins; `load`: in words."""
    context, options = part(origin, "context"), part(origin, "options")
    groups = {
        "Deployment": _deployment(context),
        "Model and server": _model(origin, context, options),
        "Load": [("load", load), *_load(summary, options)],
        "Repeat": _repeat(origin, context, options),
    }
    return [
        (name, [(label, text(value)) for label, value in facts]) for name, facts in groups.items()
    ]


Facts = list[tuple[str, object]]


def _deployment(context: JsonObject) -> Facts:
    asked = lookup(context, "recipe", "job", "infrastructure")
    jobs = part(context, "jobs")
    return [
        ("deployment", lookup(context, "id")),
        ("recipe", lookup(context, "recipe", "job", "name")),
        ("site", lookup(context, "site", "name")),
        ("jobs", {name: lookup(job, "id") for name, job in jobs.items()}),
        ("nodes", lookup(context, "nodes") or lookup(asked, "nodes")),
        ("partition", lookup(asked, "partition")),
        ("GPUs per node", lookup(context, "gpus")),
        ("GPU", find(context, "gpu_names", "gpu_name", "gpu")),
        ("driver", find(context, "driver_versions", "driver_version", "driver")),
        ("container runtime", lookup(context, "site", "runtime")),
        *_images(context),
    ]


def _images(context: JsonObject) -> Facts:
    """What the images of the services were made from, and which files they are."""
    if lookup(context, "site", "runtime") in (None, "host"):
        return [("images", None)]
    return [
        ("images", lookup(context, "site", "images")),
        *(
            (f"image of {service}", _image(image))
            for service, image in part(context, "images").items()
        ),
    ]


def _image(image: object) -> str:
    """An image by its digest; if nobody has computed that, by its size and last change."""
    name = text(lookup(image, "path")).rpartition("/")[2]
    if digest := lookup(image, "sha256"):
        return f"{name}, sha256:{digest}"
    size, changed = number(number_of(part(image), "bytes"), 0), text(lookup(image, "changed"))
    return f"{name}, {size} bytes, changed {changed}"


def _model(origin: JsonObject, context: JsonObject, options: JsonObject) -> Facts:
    sources = [lookup(context, "loaded_model"), lookup(origin, "server")]
    return [
        ("engine", lookup(context, "recipe", "job", "service", "engine")),
        ("model", options.get("model")),
        ("digest", every(sources, "digest")),
        ("quantisation", every(sources, "quantization")),
        ("parameters", every(sources, "parameters")),
        ("context length", every(sources, "context_length")),
        ("sits on", lookup(context, "loaded_model", "where") or _place(sources)),
        ("server version", every(sources, "version", "ollama_version")),
        ("loaded from", lookup(context, "loading")),
        ("server settings", lookup(context, "settings")),
        ("warnings", lookup(context, "warnings")),
    ]


def _place(sources: Sequence[object]) -> str | None:
    size, on_gpus = find(sources, "size"), find(sources, "size_vram") or 0
    if not isinstance(size, int) or not isinstance(on_gpus, int):
        return None
    return f"{on_gpus / size:.0%} in GPU memory"


def _load(summary: Summary, options: JsonObject) -> Facts:
    prompts, extras = summary.prompts, part(options, "extras")
    return [
        ("replicas", options.get("replicas")),
        ("API", options.get("api")),
        ("asked through", summary.load.get("through")),
        ("prompts", prompts.source),
        ("distinct prompts", prompts.distinct),
        ("input tokens asked for", prompts.input_tokens_asked),
        ("about the prompts", prompts.note),
        ("output tokens at most", options.get("num_predict")),
        *((name.replace("_", " "), value) for name, value in extras.items()),
        ("warm-up requests per replica", options.get("warmup")),
        ("timeout of a request [s]", options.get("timeout_s")),
        ("connections used again", summary.load.get("reuse_connections")),
    ]


def _repeat(origin: JsonObject, context: JsonObject, options: JsonObject) -> Facts:
    return [
        ("command", origin.get("command")),
        ("seed", options.get("seed")),
        ("git commit", origin.get("git_commit") or find(context, "git_commit")),
        ("began", when(text_of(origin, "began"))),
        ("ended", when(text_of(origin, "ended"))),
        ("host of the load generator", origin.get("host")),
        ("Python", origin.get("python")),
        ("event loop", origin.get("event_loop")),
    ]


def as_recorded(origin: JsonObject) -> str:
    """Return the whole provenance, as the file has it."""
    return json.dumps(origin, indent=2, ensure_ascii=False)
