"""The command line: `python3 -m campaign.report --help`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from campaign.report import options
from contracts.errors import OrchError, Regression
from contracts.files import FileError, write_whole
from loadgen.caches import own_caches


def build_parser() -> argparse.ArgumentParser:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python3 -m campaign.report",
        description="Write report.html, results.csv and results.json of a campaign into its "
        "folder. Exit codes: 0 ok, 2 no campaign there, 7 worse than --fail-on-regression allows.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="output/campaigns/NAME")
    parser.add_argument(
        "--against", type=Path, metavar="OLD", help="another campaign: its folder, or its name"
    )
    parser.add_argument(
        "--fail-on-regression",
        metavar="PART",
        help="with --against: exit 7 if a main figure of a cell is worse by more (5%%), and really",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    try:
        _run(build_parser().parse_args(arguments))
    except OrchError as error:
        sys.stderr.write(f"report: {error.message}\n")
        sys.stderr.writelines(f"  {line}\n" for line in error.details)
        return error.exit_code
    return 0


def _run(given: argparse.Namespace) -> None:
    options.check(given.against, given.fail_on_regression, given.folder)
    with own_caches():
        write(given.folder, given.against, given.fail_on_regression)


def write(folder: Path, other: Path | None = None, most: str | None = None) -> None:
    """Write all files of the report. Raises UsageError, FileError, and Regression if a figure is
    worse than in the campaign `other` by more than `most`, once they are written."""
    from campaign.report import against, grids
    from campaign.report.page import in_short, page
    from campaign.report.reading import read_campaign
    from campaign.report.results import results_of
    from campaign.report.tables import csv_lines

    limit = None if most is None else options.part_of(most)
    material = read_campaign(folder)
    then = None if other is None else read_campaign(options.campaign_of(other, folder))
    found = results_of(material, None if then is None else against.compare(material, then))
    text = json.dumps(found.as_json(), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        write_whole(folder / "results.csv", csv_lines(material))
        write_whole(folder / "results.json", [text + "\n"])
        write_whole(folder / "report.html", [page(found)])
    except OSError as error:
        raise FileError(
            f"cannot write the report into {folder}: {error.strerror}; make room there, and give "
            "the same command again."
        ) from error
    lines = [in_short(found)]
    if found.against is not None:
        lines += [grids.in_words(found.against.moved), *grids.moved_lines(found.against.real)]
    sys.stdout.writelines(f"{line}\n" for line in [*lines, str(folder / "report.html")])
    if limit is not None and found.against is not None:
        worse = against.regressions(found.against, limit)
        if worse:
            raise Regression(
                f"{material.name} is worse than {found.against.name} by more than {most} in "
                f"{len(worse)} figure{'s' * (len(worse) != 1)}; see {folder / 'report.html'}.",
                grids.moved_lines(worse),
            )


if __name__ == "__main__":
    sys.exit(main())
