"""Where the file of a model is that an engine is given."""

from __future__ import annotations

from pathlib import Path

from contracts.errors import UsageError
from engines.servers.deployable import DEPLOYED
from hpc.endpoints import HUB_MODELS
from hpc.planning.model_files import blob_of
from hpc.recipe.reading import not_gguf
from hpc.recipe.schema import Recipe
from hpc.recipe.values import is_model_path


def weights_of(recipe: Recipe, models: Path) -> str:
    """The path of the GGUF file of a recipe's model: its own, or that of the name in Ollama's
    folder of `models`; or of the folder that the engine is given, which its job fetches if it is
    the hub's. "" if the recipe's engine takes names, or is not ours.

    Raises UsageError if there is no such file.
    """
    service = recipe.job.service
    takes = DEPLOYED[service.engine].takes
    if service.server is not None or takes == "name":
        return ""
    if takes == "folder":
        return str(models.with_name(HUB_MODELS) / service.model)  # a path stays what it is
    if is_model_path(service.model):
        return service.model
    path = blob_of(service.model, models)
    wrong = "it is not there" if path is None else not_gguf(path)
    if path is None or wrong:
        raise UsageError(
            f"job.service.model = {service.model!r}: {DEPLOYED[service.engine].title} is given a "
            f"GGUF file, and of that name there is none in {models} ({wrong}); write the path of a "
            'file, or fetch it once with "engine": "ollama" and --prepare.'
        )
    return str(path)
