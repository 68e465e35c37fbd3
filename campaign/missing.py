"""What of a campaign is still to be measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from campaign.design import Design, Turn
from campaign.units import Ledger, Unit

#: What has failed, or was not valid, is measured once more by the next command, and not for ever.
MOST_ATTEMPTS = 2


class Missing:
    """Which repetitions are missing: now, by a ledger that grows."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        # What is tried by this command is not tried by it again.
        self._before = {unit: len(found) for unit, found in ledger.measured.items()}

    def is_missing(self, unit: Unit) -> bool:
        """Whether a repetition is to be measured."""
        found = self._ledger.tries(unit)
        if not found:
            return True
        ours = self._ledger.measured[unit][self._before.get(unit, 0) :]
        return found[-1].state != "done" and len(found) < MOST_ATTEMPTS and found[-1] not in ours

    def of(self, turn: Turn) -> list[str]:
        """The cells of a group's turn that are missing, in its order."""
        return [cell for cell in turn.cells if self.is_missing((cell, turn.block))]

    def turns(self, turns: Sequence[Turn]) -> list[Turn]:
        """The turns of a block in which something is missing."""
        return [turn for turn in turns if self.of(turn)]

    def deployments(self, design: Design) -> dict[str, int]:
        """How often each group is deployed for what is missing, if none ends by itself."""
        blocks = [found for turns in design.blocks() if (found := self.turns(turns))]
        count: dict[str, int] = defaultdict(int)
        up: Collection[str] = ()
        for turns, after in zip(blocks, [*blocks[1:], []], strict=True):
            for turn in turns:
                count[turn.group] += turn.group not in up
            up = kept(turns, after, design.parallel)
        return dict(count)


def kept(turns: Sequence[Turn], after: Sequence[Turn], parallel: int) -> set[str]:
    """The groups whose deployments stay up from a block to the next: those that are up at the end
    of the one, and come first in the other."""
    return {turn.group for turn in turns[-parallel:]} & set(first_of(after, parallel))


def first_of(turns: Sequence[Turn], parallel: int) -> list[str]:
    """The groups that a block begins with."""
    return [turn.group for turn in turns[:parallel]]


def of_use(turns: Sequence[Turn], after: Sequence[Turn], parallel: int) -> list[str]:
    """The groups of which a deployment that is up before a block is of use: those that it begins
    with; and if it leaves room for more, those that the next one begins with."""
    first = first_of(turns, parallel)
    later = [group for group in first_of(after, parallel) if group not in first]
    return [*first, *later[: max(0, parallel - len(turns))]]


def suspect_nodes(ledger: Ledger) -> list[str]:
    """Say of each node on which a cell has failed twice while it works elsewhere."""
    works: Mapping[str, set[str]] = defaultdict(set)
    failed: Mapping[tuple[str, str], list[str]] = defaultdict(list)
    for found in ledger.measured.values():
        for one in found:
            for node in one.nodes:
                if one.state == "done":
                    works[one.cell].add(node)
                else:
                    failed[node, one.cell].append(one.problem or one.state)
    return [
        f"node {node}: {cell!r} has failed there {len(problems)} times (the last time: "
        f"{problems[-1].rstrip('.')}), and works on {', '.join(sorted(works[cell]))}; have "
        "that node looked at, or leave it out"
        for (node, cell), problems in failed.items()
        if len(problems) > 1 and works[cell] and node not in works[cell]
    ]
