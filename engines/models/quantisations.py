"""Quantisations as GGUF files and tags of Ollama's name them, and how many bits a weight takes."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Bits of a weight on average, of Llama 2 7B (llama.cpp, tools/quantize/README.md; of those whose
#: names end in a digit by the size of their blocks).
BITS: Mapping[str, float] = {
    "f32": 32.0, "f16": 16.0, "bf16": 16.0, "q8_0": 8.5, "q6_k": 6.56, "q5_1": 6.0, "q5_0": 5.5,
    "q5_k_m": 5.68, "q5_k_s": 5.52, "q5_k": 5.68, "q4_1": 5.0, "q4_0": 4.5, "q4_k_m": 4.84,
    "q4_k_s": 4.58, "q4_k": 4.84, "mxfp4": 4.25, "q3_k_l": 4.27, "q3_k_m": 3.91, "q3_k_s": 3.5,
    "q3_k": 3.91, "q2_k": 3.35,
}  # fmt: skip
#: Those that people choose from, the best first.
USUAL = ("f16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k")
#: What is had of Ollama's library and of Hugging Face by a tag that does not say it.
DEFAULT = "q4_k_m"
_PARAMETERS = re.compile(r"(?<![a-z0-9.])(?:(\d{1,3})x)?(\d{1,4}(?:\.\d{1,3})?)([bm])(?![a-z0-9])")
_QUANTISATION = re.compile(rf"(?<![a-z0-9])({'|'.join(sorted(BITS, reverse=True))})(?![a-z0-9_])")


def parameters_in(name: str) -> int | None:
    """Return how many parameters a model has by its name (`7b`, `8x7b`, `135m`), None if that does
    not say it. Experts of a mixture are counted whole, which is a little more than there is."""
    found = _PARAMETERS.findall(name.lower())
    if not found:
        return None
    times, number, unit = found[-1]
    return round(int(times or 1) * float(number) * (10**9 if unit == "b" else 10**6))


def quantisation_in(name: str) -> str | None:
    """Return the quantisation that a name says, None if it says none."""
    found = _QUANTISATION.findall(name.lower().replace("fp16", "f16").replace("fp32", "f32"))
    return found[-1] if found else None


def bytes_of(parameters: int, quantisation: str) -> int:
    """Return about how many bytes so many parameters take."""
    return int(parameters * BITS[quantisation] / 8)
