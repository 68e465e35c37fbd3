"""A run that was measured, as its folder says it: what deployed it, and what it was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from campaign import units
from contracts.errors import UsageError
from contracts.json_object import JsonObject
from contracts.load import LoadPerClient, RunSpec
from contracts.validation import first_problem
from hpc.endpoints import OutputDir
from hpc.recipe.reading import parse_recipe
from hpc.recipe.schema import Recipe


class _Context(BaseModel):
    """The deployment's record, as the summary of a run has it."""

    model_config = ConfigDict(extra="ignore")
    recipe: JsonObject
    site: JsonObject


class _Provenance(BaseModel):
    model_config = ConfigDict(extra="ignore")
    context: _Context | None = None
    command: Sequence[str] | str = Field(default_factory=list)


class _Summary(BaseModel):
    model_config = ConfigDict(extra="ignore")
    provenance: _Provenance


@dataclass(frozen=True)
class Recorded:
    """A run. `deployed`, `site`: recipe and site profile of its deployment, as JSON; `asked`: that
    recipe with what this run was asked for."""

    folder: Path
    deployed: JsonObject
    site: JsonObject
    asked: Recipe


def read_run(folder: Path) -> Recorded:
    """Return the run of a folder. Raises UsageError if it does not say what deployed it."""
    context = _context(folder)
    try:
        spec = RunSpec.model_validate_json((folder / "request.json").read_bytes())
    except (OSError, ValidationError) as error:
        why = first_problem(error) if isinstance(error, ValidationError) else error.strerror
        raise UsageError(
            f"{folder / 'request.json'} does not say what the run was asked for ({why}); name "
            "another run."
        ) from error
    recipe = parse_recipe(context.recipe, f"recipe of the run {folder}")
    return Recorded(folder, context.recipe, context.site, _asking(recipe, spec))


def _context(folder: Path) -> _Context:
    path = folder / "summary.json"
    try:
        provenance = _Summary.model_validate_json(path.read_bytes()).provenance
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder} holds no results (no summary.json); name the folder of a finished run, or "
            "one of output/benchmarks."
        ) from error
    except (OSError, ValidationError) as error:
        why = first_problem(error) if isinstance(error, ValidationError) else error.strerror
        raise UsageError(f"{path} cannot be read ({why}); name another run.") from error
    if provenance.context is None:
        words = provenance.command
        command = words if isinstance(words, str) else " ".join(words)
        raise UsageError(
            f"{folder} is the run of no deployment, so its recipe is not known; measure the same "
            f"server again by: python3 -m loadgen {command}"
        )
    return provenance.context


def _asking(recipe: Recipe, spec: RunSpec) -> Recipe:
    """The recipe with the load of a run; without `api`, which a deployment chooses by itself,
    unless another one than its own was asked for."""
    service = recipe.job.service
    same = set(LoadPerClient.model_fields) & set(RunSpec.model_fields) - {"api"}
    changes: dict[str, object] = dict.fromkeys(LoadPerClient.model_fields)
    changes |= {name: getattr(spec, name) for name in same}
    changes["api"] = spec.api if spec.api != "ollama" and service.engine == "ollama" else None
    if spec.rate is None:
        clients = spec.clients or 1
        changes["n_clients"] = clients
        if spec.requests is not None:
            changes["n_requests_per_client"] = max(1, spec.requests // clients)
    else:
        changes["n_requests"] = spec.requests
    if service.retrieval is not None:
        changes["retrieval"] = service.retrieval.model_copy(update={"benchmark": spec.retrieval})
    service = service.model_copy(update=changes)
    return recipe.model_copy(update={"job": recipe.job.model_copy(update={"service": service})})


# --- which one ---


def folder_of(name: str, output: OutputDir) -> Path:
    """Return the folder of a run: its path, its name in output/benchmarks, or of CAMPAIGN/CELL (a
    number or key) the newest run of that cell that is valid, or else the newest. Raises UsageError.
    """
    path = Path(name)
    if path.is_dir():
        return path.resolve()
    runs = output.path / "benchmarks"
    if (runs / name).is_dir():
        return runs / name
    campaign, _, cell = name.partition("/")
    folder = output.path / "campaigns" / campaign
    if cell and folder.is_dir():
        return runs / _run_of(cell, folder)
    raise UsageError(
        f"there is no run {name!r}: neither a folder, nor a name in {runs}, nor CAMPAIGN/CELL of "
        f"{folder.parent}."
    )


def _run_of(cell: str, folder: Path) -> str:
    keys = [one.key for one in units.read(folder).cells]
    numbered = cell.isdecimal() and 0 < int(cell) <= len(keys)
    key = keys[int(cell) - 1] if numbered else cell
    if key not in keys:
        known = ", ".join(f"{number}: {known}" for number, known in enumerate(keys, 1))
        raise UsageError(f"the campaign {folder.name} has no cell {cell!r}; it has {known}.")
    found = [one for one in units.observations(folder) if one.cell == key and one.run]
    done = [one.run for one in found if one.state == "done"] or [one.run for one in found]
    if not done or done[-1] is None:
        raise UsageError(f"the cell {key} of the campaign {folder.name} has no run yet.")
    return done[-1]
