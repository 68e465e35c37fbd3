"""The command line: arguments, dispatch, and the one place where errors become exit codes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import OrchError
from contracts.version import VERSION

if TYPE_CHECKING:
    from hpc.console import Console
    from hpc.endpoints import OutputDir

    #: Commands by the names of their options, "recipe" for a deployment.
    Story = Mapping[str, Callable[[argparse.Namespace, OutputDir, Console], None]]

_EPILOG = """exit codes: 0 ok, 2 recipe, site or usage wrong, 3 scheduler, 4 a service
failed, 5 a deadline passed, 6 benchmark not valid, 7 worse, 130 interrupted"""


def parser() -> argparse.ArgumentParser:
    """The parser of orch.py's command line; its help fits one screen."""
    p = argparse.ArgumentParser(
        prog="orch.py",
        usage="orch.py RECIPE [options] | --attach | --status | --stop ID | --logs ID",
        description="One JSON recipe brings up an LLM service, a campaign many (recipe_ex/).",
        epilog=_EPILOG,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=26),
    )
    p.add_argument("recipe", nargs="?", type=Path, metavar="RECIPE", help=argparse.SUPPRESS)
    p.add_argument("--no-monitoring", action="store_true", help="leave the monitoring stack out")
    p.add_argument("--site", metavar="NAME", help="profile in sites/, or the path of one")
    p.add_argument("--output-dir", metavar="DIR", default="output", help="default: output")
    p.add_argument(
        "--dry-run",
        action="store_true",
        help="print the plan; --fit FILE: memory; --yes: unasked",
    )
    p.add_argument("--fit", type=Path, metavar="RECIPE", help=argparse.SUPPRESS)
    p.add_argument("--yes", action="store_true", help=argparse.SUPPRESS)
    p.add_argument("--against", type=Path, metavar="OLD", help=argparse.SUPPRESS)
    p.add_argument("--fail-on-regression", metavar="PART", help=argparse.SUPPRESS)
    p.add_argument("--prepare", action="store_true", help="fetch images and model, submit nothing")
    p.add_argument("--detach", action="store_true", help="return once the jobs are submitted")
    p.add_argument("--no-benchmark", action="store_true", help="leave the benchmark out")
    p.add_argument("--keep-on-failure", action="store_true", help="do not cancel what is left")
    p.add_argument("--queue-timeout", type=_seconds, metavar="S", default=86400.0,
                   help="longest wait in the queue (default: 86400)")  # fmt: skip
    p.add_argument("--start-timeout", type=_seconds, metavar="S", default=1800.0,
                   help="longest start-up with a pull (default: 1800)")  # fmt: skip
    p.add_argument("--json", action="store_true", help="print the record(s) as JSON on stdout")
    _add_commands(p)
    p.add_argument("--version", action="version", version=f"orch {VERSION}")
    return p


def _add_commands(p: argparse.ArgumentParser) -> None:
    """What is done with deployments that there are, each with its own options."""
    p.add_argument("--attach", nargs="?", const="", metavar="ID",
                   help="take up a detached deployment (default: newest)")  # fmt: skip
    p.add_argument("--status", nargs="?", const="", metavar="ID",
                   help="say how deployments are; --address [ID]: the URL")  # fmt: skip
    p.add_argument("--address", nargs="?", const="", metavar="ID", help=argparse.SUPPRESS)
    p.add_argument("--connect", nargs="?", const="", metavar="ID",
                   help="a local port that leads to it; at home: --via LOGIN")  # fmt: skip
    p.add_argument("--via", metavar="LOGIN", help=argparse.SUPPRESS)
    p.add_argument("--stop", metavar="ID", help="stop a deployment, or 'all'")
    p.add_argument("--logs", nargs="+", metavar="ID",
                   help="print the logs [of one SERVICE]; --watch [ID]: live")  # fmt: skip
    p.add_argument("--watch", nargs="?", const="", metavar="ID", help=argparse.SUPPRESS)
    p.add_argument("--ingest", nargs="+", metavar=("PATH", "ID"),
                   help="documents for retrieval (default: newest deployment)")  # fmt: skip
    p.add_argument("--batch", type=Path, metavar="IN",
                   help="work it off: --batch IN [--out OUT] [ID | RECIPE]")  # fmt: skip
    p.add_argument("--out", type=Path, metavar="OUT", help=argparse.SUPPRESS)
    p.add_argument("--token", nargs="+", metavar=("DO", "NAME"),
                   help="add NAME [ID] [--expires 12h], list or revoke")  # fmt: skip
    p.add_argument("--expires", metavar="TIME", help=argparse.SUPPRESS)
    p.add_argument("--in-flight", type=int, metavar="N", help=argparse.SUPPRESS)
    p.add_argument("--per-minute", type=int, metavar="N", help=argparse.SUPPRESS)
    p.add_argument("--rerun", nargs="+", metavar="RUN", help=argparse.SUPPRESS)
    p.add_argument("--link", nargs="?", const="", metavar="ID", help=argparse.SUPPRESS)
    p.add_argument("--login", metavar="ID",
                   help="a token for what is shared with you; also by its URL")  # fmt: skip


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds")
    return value


def main(story: Story, argv: Sequence[str] | None = None) -> int:
    """Run orch.py with `argv`; returns the exit code. No failure of ours shows a traceback.

    `story`: the commands that orch.py carries out itself; the others are in hpc/commands/.
    """
    given = parser().parse_args(argv)
    from hpc.console import Console

    console = Console(quiet_stdout=given.json)
    try:
        _check(given)
        _run(given, story, console)
    except OrchError as error:
        _explain(error, console)
        return error.exit_code
    return 0


#: Those of hpc/commands/access/.
_ACCESS = ("token", "login", "link", "address", "connect")
_COMMANDS = (
    *("batch", "recipe", "attach", "status", "stop", "logs", "ingest", "fit", "rerun"),
    "watch",
    *_ACCESS,
)
#: What only a new token has.
_OF_TOKENS = ("expires", "in_flight", "per_minute")


def _check(given: argparse.Namespace) -> None:
    """Exactly one thing to do."""
    from contracts.errors import UsageError

    limited = [name for name in _OF_TOKENS if getattr(given, name) is not None]
    if limited and (given.token or [""])[0] != "add":
        option = limited[0].replace("_", "-")
        raise UsageError(f"--{option} is for --token add NAME alone; leave it out.")
    if given.out is not None and given.batch is None:
        raise UsageError("--out is for --batch IN alone; leave it out.")
    if given.via is not None and given.connect is None:
        raise UsageError("--via is for --connect [ID] alone; leave it out.")
    asked = [name for name in _COMMANDS if getattr(given, name) is not None]
    if len(asked) == 1 or asked == ["batch", "recipe"]:
        return
    options = ", ".join(f"--{name}" for name in _COMMANDS if name != "recipe")
    raise UsageError(f"give one recipe, or one of {options}; see orch.py --help.")


def _is_recipe(named: Path | None) -> bool:
    """Whether it is the path of one, rather than the id of a deployment."""
    return named is not None and (named.suffix == ".json" or named.is_file())


def _explain(error: OrchError, console: Console) -> None:
    from contracts.errors import Detached, Interrupted, UsageError

    if isinstance(error, Detached):
        console.error("the terminal is gone; the deployment goes on: pick it up with --attach")
    elif isinstance(error, Interrupted):
        console.error("interrupted; our own jobs were cancelled")
    else:
        console.error(error.message, error.details)
        if isinstance(error, UsageError):
            console.error("nothing was submitted")


def _run(given: argparse.Namespace, story: Story, console: Console) -> None:
    from contracts.errors import UsageError
    from hpc import signals
    from hpc.endpoints import OutputDir

    signals.install()
    output = OutputDir(Path(given.output_dir).absolute())
    command = next(name for name in _COMMANDS if getattr(given, name) is not None)
    if command == "batch" and _is_recipe(given.recipe):
        command = "recipe"  # of a deployment that works it off
    elif command == "recipe" and _is_campaign(given.recipe):
        command = "campaign"
    elif given.against is not None or given.fail_on_regression is not None:
        raise UsageError("--against and --fail-on-regression are for a campaign; give its file.")
    folder = "hpc.commands.access" if command in _ACCESS else "hpc.commands"
    run = story[command] if command in story else import_module(f"{folder}.{command}").run
    run(given, output, console)


def _is_campaign(path: Path) -> bool:
    """Whether a file is a campaign, and no recipe; what cannot be read is said by who reads it."""
    from contracts.errors import UsageError
    from contracts.files import read_json_strictly

    try:
        found = read_json_strictly(path, "recipe")
    except UsageError:
        return False
    return isinstance(found, dict) and "campaign" in found
