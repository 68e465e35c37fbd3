"""What a newcomer finds: pages that name what is there, a licence, a version, a package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contracts.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
#: The five changes of ARCHITECTURE.md, each with the file that it begins with.
CHANGES = {
    "a knob of the load": "contracts/knobs.py",
    "a figure": "loadgen/measure/summarise.py",
    "a service": "hpc/service.py",
    "an engine": "engines/registry.py",
    "a scheduler": "hpc/scheduler/interface.py",
}


def paths_in(text: str) -> list[str]:
    """The paths of ours that a page names in backticks; <…> stands for names."""
    words = re.findall(r"`([\w./*<>-]+)`", text)
    kinds = r"[\w./-]+\.(py|md|j2|sh|json|toml|def)|[\w-]+(/[\w-]+)*/"
    return [word for word in words if re.fullmatch(kinds, word)]


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_every_path_that_a_page_names_is_there(page: str) -> None:
    named = paths_in((ROOT / page).read_text())
    made = ("output/", "recipe.json", "summary.json")  # what runs make
    assert named
    assert [p for p in named if not p.startswith(made) and not (ROOT / p).exists()] == []


@pytest.mark.parametrize(("change", "begins_with"), CHANGES.items())
def test_the_page_names_the_files_of_each_change(change: str, begins_with: str) -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text()
    section = page.partition(f"### … {change}\n")[2].partition("\n###")[0]
    assert begins_with in paths_in(section)


def test_the_table_of_imports_is_that_of_the_test() -> None:
    from test_architecture import MAY_IMPORT

    page = (ROOT / "ARCHITECTURE.md").read_text()
    table = page.partition("## Who may import whom")[2].partition("\n## ")[0]
    assert [name for name in MAY_IMPORT if name not in table] == []


def test_anybody_may_use_it() -> None:
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()
    assert "Apache License\n" in (ROOT / "LICENSE").read_text()


def test_the_version_is_told_and_has_its_changes(
    orch: object, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        orch("--version")  # type: ignore[operator]
    assert (ended.value.code, capsys.readouterr().out) == (0, f"orch {VERSION}\n")
    assert f"## {VERSION}" in (ROOT / "CHANGELOG.md").read_text()
