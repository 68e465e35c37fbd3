"""llama.cpp's server out of PyPI's `xllamacpp`, by the command line of its own `llama-server` as
far as job scripts use that. scripts/get_llamacpp.sh makes it .tools/bin/llama-server.
"""

from __future__ import annotations

import argparse
import signal
import sys

import xllamacpp

#: By the program's words: what the library calls it, and its kind.
_SAMPLING = {
    "temp": ("temp", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "min_p": ("min_p", float),
    "typical": ("typ_p", float),
    "repeat_last_n": ("penalty_last_n", int),
    "repeat_penalty": ("penalty_repeat", float),
    "presence_penalty": ("penalty_present", float),
    "frequency_penalty": ("penalty_freq", float),
    "seed": ("seed", int),
}


def main() -> int:
    """Serve until a signal ends it. Returns the exit code of one that cannot."""
    if "--list-devices" in sys.argv:
        _list_devices()
        return 0
    given = _parser().parse_args()
    try:
        server = xllamacpp.Server(_params(given))
    except RuntimeError as error:
        sys.stderr.write(f"llama-server: {error}\n")
        return 1
    while server:
        signal.pause()
    return 0


def _list_devices() -> None:
    """As that does: a line for each GPU."""
    found = [one for one in xllamacpp.get_device_info() if "GPU" in str(one.get("type"))]
    sys.stdout.writelines(
        ["Available devices:\n", *(f"  {one['name']}: {one['description']}\n" for one in found)]
    )


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
    p.add_argument("--version", action="version", version=f"version: {xllamacpp.__version__}")
    p.add_argument("--model", required=True)
    p.add_argument("--alias", required=True)
    p.add_argument("--host", default="127.0.0.1")
    p.add_argument("--port", type=int, default=8080)
    p.add_argument("--ctx-size", type=int, default=0)
    p.add_argument("--parallel", type=int, default=1)
    p.add_argument("--threads", type=int, required=True)
    p.add_argument("--threads-batch", type=int, required=True)
    p.add_argument("--gpu-layers", type=int, default=0)
    p.add_argument("--metrics", action="store_true")
    p.add_argument("--slots", action="store_true")
    p.add_argument("--flash-attn", choices=["on", "off"])
    p.add_argument("--cache-type-k", default="f16")
    p.add_argument("--cache-type-v", default="f16")
    p.add_argument("--batch-size", type=int)
    p.add_argument("--ubatch-size", type=int)
    p.add_argument("--load-mode", choices=["mmap", "none"])
    for flag in _SAMPLING:
        p.add_argument(f"--{flag.replace('_', '-')}", type=float)
    return p


def _params(given: argparse.Namespace) -> xllamacpp.CommonParams:
    p = xllamacpp.CommonParams()
    p.model.path = given.model
    p.model_alias = {given.alias}
    p.hostnames, p.port = [given.host], given.port
    p.n_ctx, p.n_parallel = given.ctx_size, given.parallel
    p.cpuparams.n_threads = given.threads
    p.cpuparams_batch.n_threads = given.threads_batch
    p.n_gpu_layers = given.gpu_layers
    p.endpoint_metrics, p.endpoint_slots = given.metrics, given.slots
    p.cache_type_k, p.cache_type_v = map(_cache_type, (given.cache_type_k, given.cache_type_v))
    if given.flash_attn:
        on = {"on": "ENABLED", "off": "DISABLED"}[given.flash_attn]
        p.flash_attn_type = xllamacpp.llama_flash_attn_type[f"LLAMA_FLASH_ATTN_TYPE_{on}"]
    if given.batch_size:
        p.n_batch = given.batch_size
    if given.ubatch_size:
        p.n_ubatch = given.ubatch_size
    if given.load_mode:
        p.load_mode = xllamacpp.llama_load_mode[f"LLAMA_LOAD_MODE_{given.load_mode.upper()}"]
    for flag, (name, kind) in _SAMPLING.items():
        value = getattr(given, flag)
        if value is not None:
            setattr(p.sampling, name, kind(value))
    return p


def _cache_type(name: str) -> object:
    return xllamacpp.ggml_type[f"GGML_TYPE_{name.upper()}"]


if __name__ == "__main__":
    sys.exit(main())
