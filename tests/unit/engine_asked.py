"""A server that answers by a table, and variables that several engines know."""

from types import SimpleNamespace

#: Variables of engines that compute by ggml: name, value in a recipe, what the engine is given.
GGML_VARIABLES = [
    ("GGML_CUDA_ENABLE_UNIFIED_MEMORY", 1, "1"),
    ("GGML_CUDA_DISABLE_GRAPHS", True, "1"),
    ("GGML_CUDA_NO_PINNED", "1", "1"),
    ("CUDA_LAUNCH_BLOCKING", True, "1"),
    ("HSA_OVERRIDE_GFX_VERSION", "10.3.0", "10.3.0"),
    ("HSA_ENABLE_SDMA", False, "0"),
]


def ready(engine, said, model):
    """What an engine makes of a server that says so by its paths: an object, or a status alone;
    404 of others."""

    def ask(path, body=None):
        answer = said.get(path, 404)
        if isinstance(answer, int):
            return SimpleNamespace(status=answer, json={}, error=f"HTTP {answer}")
        return SimpleNamespace(status=200, json=answer, error="")

    return engine.ready(ask, "/v1", model, "It")
