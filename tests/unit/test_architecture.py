"""The house: who may import whom, no circles, and how large folders, modules and functions are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("contracts", "engines", "loadgen", "retrieval", "exporters", "client", "hpc"),
    *("ledger", "batch", "campaign"),
)
ROOMS = (
    *("ollamaService", "engineService", "qdrantService", "clientServiceHandler"),
    "monitoringService",
)

#: What a package, or a module at the root, may import of the others.
MAY_IMPORT: dict[str, set[str]] = {
    "contracts": set(),
    "engines": {"contracts"},
    "loadgen": {"contracts", "engines"},
    "retrieval": {"contracts", "engines"},
    "exporters": {"contracts", "engines"},
    "client": {
        *("contracts", "engines", "retrieval", "loadgen.load.child_process"),
        *("batch.state", "batch.files"),
    },
    "clientService": {"client", "contracts", "engines", "retrieval", "loadgen.load.child_process"},
    "ledger": {"contracts"},
    "batch": {"contracts", "engines", "ledger"},
    "campaign": {"contracts", "ledger", "loadgen"},
    "hpc": {"contracts", "engines", "retrieval", "ledger", "batch", "campaign"},
    **{room: {"hpc", "contracts", "engines", "retrieval"} for room in ROOMS},
    "orch": {"hpc", "contracts", *ROOMS},
}
#: The same of the parts of a package: what each may import of the others.
MAY_IMPORT_WITHIN: dict[str, set[str]] = {
    "loadgen.load": set(),
    "loadgen.measure": {"loadgen.load"},
    "loadgen.outputs": {"loadgen.load", "loadgen.measure"},
    "loadgen.compare": {"loadgen.load", "loadgen.measure", "loadgen.outputs"},
    "hpc.recipe": set(),
    "hpc.scheduler": {"hpc.recipe"},
    "hpc.planning": {"hpc.recipe", "hpc.scheduler"},
    "hpc.deployments": {"hpc.recipe", "hpc.scheduler"},
    "hpc.following": {"hpc.recipe", "hpc.scheduler", "hpc.planning", "hpc.deployments"},
    "hpc.connecting": {
        "hpc.recipe",
        "hpc.scheduler",
        "hpc.planning",
        "hpc.deployments",
        "hpc.following",
    },
    "hpc.watching": {"hpc.recipe", "hpc.scheduler", "hpc.deployments"},
    "hpc.campaigns": {
        "hpc.recipe",
        "hpc.scheduler",
        "hpc.planning",
        "hpc.deployments",
        "hpc.following",
    },
    "hpc.commands": {
        "hpc.recipe",
        "hpc.scheduler",
        "hpc.planning",
        "hpc.deployments",
        "hpc.following",
        "hpc.connecting",
        "hpc.watching",
        "hpc.campaigns",
    },
}
MOST_LINES, MOST_MODULES, MOST_LINES_OF_A_FUNCTION = 300, 15, 42
#: `Any` and collections of `object`, per 1,000 lines; what others' JSON holds is a JsonObject.
MOST_UNTYPED = 3.0


@cache
def modules() -> dict[str, Path]:
    """All modules of the product, by their dotted names."""
    paths = [
        *ROOT.glob("*.py"),
        *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py")),
    ]
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    return {n.removesuffix(".__init__"): p for n, p in zip(names, paths, strict=True)}


def imported(path: Path) -> Iterator[str]:
    """The modules of ours that a file imports, at its head or later."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            found = name if name in modules() else name.rpartition(".")[0]
            if found in modules():
                yield found


@cache
def arrows() -> dict[str, set[str]]:
    """What each module imports, but for itself."""
    return {name: set(imported(path)) - {name} for name, path in modules().items()}


def is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in arrows().items()
        if is_in(module, package)
        for other in others
        if not is_in(other, package)
        and not any(is_in(other, allowed) for allowed in MAY_IMPORT[package])
    ]
    assert wrong == []


@pytest.mark.parametrize("part", MAY_IMPORT_WITHIN)
def test_a_part_imports_only_what_it_may(part: str) -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in arrows().items()
        if is_in(module, part)
        for other in others
        for of in MAY_IMPORT_WITHIN
        if of != part and is_in(other, of) and of not in MAY_IMPORT_WITHIN[part]
    ]
    assert wrong == []


def test_only_the_registry_knows_which_schedulers_there_are() -> None:
    """But that local scripts have the head that sbatch reads, and see none of Slurm's variables."""
    shelves = ("hpc.scheduler.slurm", "hpc.scheduler.local")
    found = {
        (module, shelf)
        for module, others in arrows().items()
        for shelf in shelves
        if not is_in(module, shelf) and any(is_in(other, shelf) for other in others)
    }
    assert {(m, s) for m, s in found if not is_in(m, "hpc.scheduler.local")} == {
        ("hpc.scheduler.registry", shelf) for shelf in shelves
    }


def test_every_module_has_its_place_in_the_table() -> None:
    assert {name.partition(".")[0] for name in modules()} == MAY_IMPORT.keys()


def test_there_is_no_circle() -> None:
    """Modules that import nothing of the rest are taken away until none is left."""
    left = {name: set(others) for name, others in arrows().items()}
    while free := {name for name, others in left.items() if not others & left.keys()}:
        left = {name: others for name, others in left.items() if name not in free}
    assert left == {}


def test_no_folder_is_crowded() -> None:
    folders = {path.parent for path in modules().values()} - {ROOT}
    crowded = {
        str(folder.relative_to(ROOT)): count
        for folder in folders
        if (count := len([p for p in folder.glob("*.py") if p.name != "__init__.py"]))
        > MOST_MODULES
    }
    assert crowded == {}


def test_no_module_is_long() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in modules().values()
    }
    too_long = {path: n for path, n in lengths.items() if n > MOST_LINES}
    assert too_long == {}


def test_no_function_is_long() -> None:
    long = {
        f"{name}.{node.name}": lines
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (lines := len({n.lineno for n in ast.walk(node) if hasattr(n, "lineno")}))
        > MOST_LINES_OF_A_FUNCTION
    }
    assert long == {}


def says_nothing(node: ast.AST) -> bool:
    """Whether a type tells nothing of what is in it: `Any`, `dict[str, object]` and the like."""
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        within = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        held = any(isinstance(one, ast.Name) and one.id == "object" for one in within)
        return held and node.value.id in ("dict", "list", "tuple", "Mapping", "Sequence")
    return isinstance(node, ast.Name) and node.id == "Any"


def test_types_say_what_they_hold() -> None:
    texts = [path.read_text() for path in modules().values()]
    untyped = sum(says_nothing(node) for text in texts for node in ast.walk(ast.parse(text)))
    assert untyped / sum(len(text.splitlines()) for text in texts) * 1000 <= MOST_UNTYPED


def test_every_package_says_what_may_live_in_it() -> None:
    packages = [path for path in modules().values() if path.name == "__init__.py"]
    short = [
        str(p) for p in packages if len(ast.get_docstring(ast.parse(p.read_text())) or "") < 60
    ]
    assert short == []
