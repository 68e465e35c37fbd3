"""All that decides a result, as one fingerprint.

What was found under other conditions is another result: it is never mixed with these in silence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TypeAlias

#: What each thing that decides is called in a sentence ("model digest"), and what it is.
Conditions: TypeAlias = Mapping[str, str]


def fingerprint(decides: object) -> str:
    """Return 32 hexadecimal digits of `decides`, a value of JSON: the same for equal values,
    however their keys are ordered.

    128 bits of BLAKE2b (RFC 7693): that two of a thousand million units have the same is as likely
    as one in 10^21.
    """
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def differences(before: Conditions, now: Conditions) -> list[str]:
    """Say of each thing that is no longer what it was how it was and how it is, in the order of
    `now`."""
    names = [*now, *(name for name in before if name not in now)]
    return [
        f"{name}: {before.get(name, 'not known')} before, {now.get(name, 'not known')} now"
        for name in names
        if before.get(name) != now.get(name)
    ]
