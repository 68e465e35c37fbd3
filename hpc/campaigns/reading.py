"""Reading a campaign's file: all of it is checked before anything is submitted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from campaign.cells import Cell, Setting
from campaign.design import Design, matches, product, same
from campaign.file import MOST_CELLS, MOST_NAME, NAME, Campaign, CampaignFile
from contracts.errors import UsageError
from contracts.files import expanded, read_json_strictly
from contracts.json_object import JsonObject
from contracts.validation import shown
from hpc.campaigns.grouping import Group, grouped
from hpc.campaigns.settings import (
    in_recipe,
    problem_of,
    searched_with,
    with_load,
    with_settings,
)
from hpc.recipe.reading import recipe_of
from hpc.recipe.schema import Recipe
from hpc.recipe.words import count, validate


@dataclass(frozen=True)
class Checked:
    """A campaign that is right. `given`: the file's content; `recipes`: of each cell, by its
    key."""

    name: str
    given: JsonObject
    asked: Campaign
    cells: Sequence[Cell]
    recipes: Mapping[str, Recipe]
    groups: Sequence[Group]

    @property
    def design(self) -> Design:
        """The order in which it is measured."""
        asked = self.asked
        groups = {group.id: group.cells for group in self.groups}
        return Design(groups, asked.repetitions, asked.parallel, asked.seed)

    @cached_property
    def group_of(self) -> Mapping[str, Group]:
        """The group of each cell, by the cell's key."""
        return {key: group for group in self.groups for key in group.cells}


@dataclass
class _Problems:
    """All that is wrong, each thing once."""

    lines: list[str] = field(default_factory=list)

    def add(self, path: str, words: str) -> None:
        line = f"campaign.{path}: {words}"
        if line not in self.lines:
            self.lines.append(line)


def load_campaign(path: Path, store: Path | None = None) -> Checked:
    """Read and check the campaign at `path`, with the recipes of all its cells; `store`: the site's
    folder of models. Raises UsageError with every error, each with its JSON path."""
    given = read_json_strictly(path, "campaign")
    what = f"campaign {path}"
    asked = validate(CampaignFile, given, what).campaign
    assert isinstance(given, dict)
    problems = _Problems()
    name = _name(asked, path, problems)
    cells = _cells(asked, problems)
    _check_search(asked, problems)
    recipes: dict[str, Recipe] = {}
    if not problems.lines:
        base, file = _base(asked, path)
        if asked.search is not None:  # room for the largest
            base = with_load(base, asked.search)
        recipes = _recipes(cells, base, file, store, problems)
        _check_slo(asked, recipes, problems)
    if problems.lines:
        raise UsageError(f"{what} is not valid: {count(problems.lines)}", problems.lines)
    return Checked(name, given, asked, cells, recipes, grouped(name, cells, recipes))


def _name(asked: Campaign, path: Path, problems: _Problems) -> str:
    name = asked.name or path.stem
    if not re.fullmatch(NAME, name) or len(name) > MOST_NAME:
        problems.add(
            "name",
            f"is missing, and the file's own ({shown(name)}) is none: it must be made of letters, "
            f"digits, '.', '_' and '-', with at most {MOST_NAME} of them",
        )
    return name


# --- cells ---------------------------------------------------------------------------------------


def _cells(asked: Campaign, problems: _Problems) -> list[Cell]:
    """The cells, in the order of `vary`; none if it cannot be told which they are."""
    before = len(problems.lines)
    for path in asked.vary:
        _check_path(path, asked, problems)
    total = 1
    for values in asked.vary.values():
        total *= len(values)
    if total > MOST_CELLS:
        problems.add("vary", f"makes {total} cells, but must make at most {MOST_CELLS}")
    if len(problems.lines) > before:
        return []
    every = product(asked.vary)
    cells = _without_excluded(every, asked, problems)
    if not cells:
        problems.add("exclude", "leaves no cell")
    twice = [key for key, times in Counter(cell.key for cell in cells).items() if times > 1]
    for key in twice:
        problems.add("vary", f"has two cells of the name {key!r}; say one of them otherwise")
    _check_baseline(cells, asked, problems)
    return cells


def _check_path(path: str, asked: Campaign, problems: _Problems) -> None:
    wrong = problem_of(path)
    if wrong:
        problems.add(f"vary.{path}", wrong)
    others = [one for one in asked.vary if one != path and in_recipe(one) == in_recipe(path)]
    if others and path > others[0]:
        problems.add(f"vary.{path}", f"is the same as {others[0]}; leave one of them out")
    values = asked.vary[path]
    for number, value in enumerate(values):
        if any(same(value, earlier) for earlier in values[:number]):
            problems.add(f"vary.{path}.{number}", f"{shown(value)} is given twice")


def _without_excluded(every: list[Cell], asked: Campaign, problems: _Problems) -> list[Cell]:
    left = list(every)
    for number, part in enumerate(asked.exclude):
        found = [cell for cell in every if matches(cell, part)]
        if not found:
            problems.add(f"exclude.{number}", f"matches no cell{_why(part, asked)}")
        left = [cell for cell in left if cell not in found]
    return left


def _check_baseline(cells: Sequence[Cell], asked: Campaign, problems: _Problems) -> None:
    if asked.baseline is None:
        return
    found = [cell for cell in cells if matches(cell, asked.baseline)]
    if not found:
        problems.add("baseline", f"is no cell{_why(asked.baseline, asked)}")
    elif len(found) > 1:
        open_ = [path for path in asked.vary if path not in asked.baseline]
        problems.add("baseline", f"matches {len(found)} cells; give it {' and '.join(open_)}, too")


def _check_search(asked: Campaign, problems: _Problems) -> None:
    if asked.search is None:
        return
    knob = asked.search.knob
    varied = [path for path in asked.vary if in_recipe(path) in searched_with(knob)]
    if varied:
        problems.add(f"search.{knob}", f"does not go with {varied[0]} in vary: it is the search's")


def _check_slo(asked: Campaign, recipes: Mapping[str, Recipe], problems: _Problems) -> None:
    without = [key for key, one in recipes.items() if one.job.service.goodput is None]
    if asked.search is not None and asked.slo is None and without:
        problems.add("search", "needs limits that a good request keeps: give campaign.slo")


def _why(part: Mapping[str, Setting], asked: Campaign) -> str:
    """Why no cell has these settings, as far as one of them alone is the reason."""
    for path, value in part.items():
        if path not in asked.vary:
            return f": {path} is not varied ({', '.join(asked.vary)} are)"
        if not any(same(value, one) for one in asked.vary[path]):
            return f": {path} is never {shown(value)}"
    return ""


# --- recipes -------------------------------------------------------------------------------------


def _base(asked: Campaign, path: Path) -> tuple[JsonObject, Path]:
    """The recipe that all cells have in common, as JSON, and the file that it stands in."""
    if not isinstance(asked.recipe, str):
        return asked.recipe, path
    file = path.parent / expanded(asked.recipe)
    found = read_json_strictly(file, "recipe")
    if not isinstance(found, dict):
        raise UsageError(f"recipe {file} is no JSON object; see recipe_ex/ for examples.")
    return found, file


def _recipes(
    cells: Sequence[Cell], base: JsonObject, path: Path, store: Path | None, problems: _Problems
) -> dict[str, Recipe]:
    """The recipe of each cell, read as any other one; paths in it start at the recipe's folder."""
    recipes: dict[str, Recipe] = {}
    refused: dict[str, list[str]] = {}
    for cell in cells:
        try:
            recipe = recipe_of(with_settings(base, cell.settings), path, store)
        except UsageError as error:
            for line in error.details or [error.message]:
                refused.setdefault(line, []).append(cell.key)
            continue
        if not recipe.job.service.load:
            refused.setdefault(_NO_LOAD, []).append(cell.key)
        recipes[cell.key] = recipe
    for line, keys in refused.items():
        problems.add(*_refusal(line, keys, cells))
    return recipes


_NO_LOAD = (
    "job.service asks for no requests: give n_requests_per_client, n_requests or duration_seconds"
)


def _refusal(line: str, keys: Sequence[str], cells: Sequence[Cell]) -> tuple[str, str]:
    """Where an error of recipes comes from, and its words."""
    varied: Iterable[str] = cells[0].settings
    source = next((path for path in varied if line.startswith(f"{in_recipe(path)} =")), None)
    if source is not None:
        return f"vary.{source}", line
    if len(keys) == len(cells):
        return "recipe", line
    return "vary", f"{line} (in {len(keys)} of {len(cells)} cells, first in {keys[0]!r})"
