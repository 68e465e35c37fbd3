"""Where the file of a model is that an engine is given."""

from __future__ import annotations

from pathlib import Path

from contracts.errors import UsageError
from engines.servers.deployable import DEPLOYED
from hpc.planning.origins import hub_folder, origin_of
from hpc.recipe.reading import not_gguf
from hpc.recipe.schema import Recipe
from hpc.recipe.values import is_model_path


def weights_of(
    recipe: Recipe, models: Path, store: Path | None = None, to_serve: bool = True
) -> str:
    """The path of the GGUF file of a recipe's model: its own, or that of the name in Ollama's
    folder of `models`, or in the site's `store`; or of the folder that the engine is given, which
    its job fetches if it is the hub's. "" if the recipe's engine takes names, or is not ours; also
    if there is no such file and it is not `to_serve`.

    Raises UsageError if there is no such file.
    """
    service = recipe.job.service
    takes = DEPLOYED[service.engine].takes
    if service.server is not None or takes == "name":
        return ""
    origin = origin_of(service.model, models, store, takes)
    if takes == "folder":
        return str(origin.path or hub_folder(service.model, models))
    if is_model_path(service.model):
        return service.model
    if origin.path is None and not to_serve:
        return ""
    wrong = "it is not there" if origin.path is None else not_gguf(origin.path)
    if origin.path is None or wrong:
        where = f"{models} ({wrong})" if store is None else f"{models} or {store} ({wrong})"
        raise UsageError(
            f"job.service.model = {service.model!r}: {DEPLOYED[service.engine].title} is given a "
            f"GGUF file, and of that name there is none in {where}; write the path of a "
            'file, or fetch it once with "engine": "ollama" and --prepare.',
            [origin.problem] if origin.problem else [],
        )
    return str(origin.path.resolve() if origin.kind == "store" else origin.path)
