"""A stand-in for AMD's amd-smi: a program of that name that answers from a folder.

No AMD GPU has been at hand: what it answers is written after AMD's documentation of `amd-smi` and
after answers that people have shown of Radeon and Instinct cards (24.x, and 26.x with gpu_data).
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SOURCE = """#!{python}
import sys
from pathlib import Path

folder = Path({folder!r})
with (folder / "asked").open("a") as asked:
    asked.write(" ".join(sys.argv[1:]) + "\\n")
if (folder / "hangs").exists():
    sys.stdin.close()
    import signal
    signal.pause()
if (folder / "fails").exists():
    sys.exit((folder / "fails").read_text())
assert sys.argv[-1] == "--json"
print((folder / sys.argv[1]).read_text())
"""
JsonOf = Mapping[str, object]


def value(number: object, unit: str) -> JsonOf:
    return {"value": number, "unit": unit}


#: As of an Instinct: several dies, no edge.
INSTINCT: JsonOf = {
    "usage": {"gfx_activity": value(37, "%"), "umc_activity": value(11, "%"), "mm_activity": "N/A"},
    "power": {"socket_power": value(140, "W"), "throttle_status": "UNTHROTTLED"},
    "clock": {
        "gfx_0": {"clk": value(132, "MHz"), "max_clk": value(2100, "MHz")},
        "gfx_1": {"clk": value(1980, "MHz"), "max_clk": value(2100, "MHz")},
        "gfx_2": {"clk": "N/A", "max_clk": "N/A"},
        "mem_0": {"clk": value(900, "MHz"), "max_clk": value(1300, "MHz")},
    },
    "temperature": {"edge": "N/A", "hotspot": value(41, "C"), "mem": value(33, "C")},
    "energy": {"total_energy_consumption": value(1234.5, "J")},
    "mem_usage": {
        "total_vram": value(196592, "MB"),
        "used_vram": value(283, "MB"),
        "free_vram": value(196309, "MB"),
    },
}
#: As of a virtual machine's, in which whole sections are missing or "N/A".
QUIET: JsonOf = {
    "usage": "N/A",
    "power": {"socket_power": "N/A"},
    "clock": "N/A",
    "temperature": {"edge": value(30, "C"), "hotspot": "N/A"},
    "energy": {"total_energy_consumption": "N/A"},
    "mem_usage": {"total_vram": value(16368, "MB"), "used_vram": value(368, "MB")},
}


class AmdSmi:
    """Such a program, and what it says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "amd-smi"
        program.write_text(SOURCE.format(python=sys.executable, folder=str(folder)))
        program.chmod(0o755)
        self.environment = {"PATH": f"{folder}:{os.environ['PATH']}"}

    def says(self, *gpus: JsonOf, nodes: Sequence[object] = (), wrapped: bool = False) -> None:
        """Of each GPU; `nodes`: of KFD, which older releases do not tell; `wrapped`: as 26.x."""
        listed: list[JsonOf] = [
            {"gpu": n, "bdf": f"0000:0{n}:00.0", "uuid": f"{n}bff74a1-0000-1000-80d1-3c23a9580558"}
            for n in range(len(gpus))
        ]
        if nodes:
            listed = [{**one, "node_id": node} for one, node in zip(listed, nodes, strict=True)]
        names = [{"gpu": n, "asic": {"market_name": f"AMD MI30{n}X"}} for n in range(len(gpus))]
        metrics = [{"gpu": n, **gpu} for n, gpu in enumerate(gpus)]
        for question, answer in (("list", listed), ("static", names), ("metric", metrics)):
            text = json.dumps({"gpu_data": answer} if wrapped else answer, indent=4)
            (self.folder / question).write_text(text)

    def fails(self, words: str) -> None:
        (self.folder / "fails").write_text(words)

    def works(self) -> None:
        (self.folder / "fails").unlink()

    def asked(self) -> list[str]:
        return (self.folder / "asked").read_text().splitlines()
