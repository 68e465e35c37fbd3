"""Models as Ollama keeps them in a folder."""

import hashlib
import json

LAYER = "application/vnd.ollama.image."
CONFIG = {"model_format": "gguf", "model_family": "llama", "model_families": ["llama"],
          "model_type": "1M", "file_type": "F16", "os": "linux", "architecture": "amd64",
          "rootfs": {"type": "layers", "diff_ids": []}}  # fmt: skip


def keep(folder, place, weights, **layers):
    """Write a manifest at `place` (HOST/NAMESPACE/MODEL/TAG) and its blobs: the weights, and others
    by their kinds. Returns where the weights are."""

    def blob(kind, data):
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        (folder / "blobs" / f"sha256-{digest}").write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}

    manifest = folder / "manifests" / place
    manifest.parent.mkdir(parents=True, exist_ok=True)
    found = [blob(f"{LAYER}{kind}", data) for kind, data in {"model": weights, **layers}.items()]
    config = blob("application/vnd.docker.container.image.v1+json", json.dumps(CONFIG).encode())
    manifest.write_text(json.dumps({"schemaVersion": 2, "config": config, "layers": found}))
    return folder / "blobs" / found[0]["digest"].replace(":", "-")


def everything(folder):
    """All of a folder: paths, contents, and where links lead."""
    return {
        path: path.readlink() if path.is_symlink() else path.is_dir() or path.read_bytes()
        for path in folder.rglob("*")
    }
