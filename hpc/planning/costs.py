"""What other settings of a deployment would cost in memory, and which of them would fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from engines.models.memory import KV_BYTES, KvCacheType, Serving
from engines.models.quantisations import USUAL, bytes_of
from engines.servers.deployable import DEPLOYED
from hpc.planning.memory import Fit, Part, judge

#: Recipes take no more.
_MOST_SLOTS, _MOST_CONTEXT = 1024, 10_000_000
CONTEXT_STEP = 1024


@dataclass(frozen=True)
class Quantisation:
    """The same model in another quantisation; `weights_bytes`: about."""

    name: str
    weights_bytes: int
    fits: bool | None


@dataclass(frozen=True)
class Costs:
    """Bytes more, or less, than what is asked for: of one slot more, of 1,024 tokens more in each
    slot, and of each kind of KV cache. The largest num_parallel, and context_length, with which it
    would fit, the rest as it is asked for: None if that is not known, 0 if none would."""

    slot_bytes: int
    tokens_1024_bytes: int
    kv_cache_type_bytes: dict[KvCacheType, int]
    largest_num_parallel: int | None
    largest_context_length: int | None


def costs_of(fit: Fit) -> Costs:
    """What other settings would cost."""
    serving = fit.serving

    def more(other: Serving) -> int:
        return _again(fit, other).needed - fit.needed

    def with_slots(count: int) -> Serving:
        return replace(serving, num_parallel=count)

    trained = max((_trained_with(part) for part in fit.parts), default=0) or _MOST_CONTEXT

    def tokens(steps: int) -> int:
        return min(steps * CONTEXT_STEP, trained)

    def with_context(steps: int) -> Serving:
        return replace(serving, context_length=tokens(steps))

    def with_cache(kind: KvCacheType) -> Serving:
        flash = serving.flash_attention if kind == "f16" else True  # which those need
        return replace(serving, kv_cache_type=kind, flash_attention=flash)

    steps = _most(fit, with_context, -(-trained // CONTEXT_STEP))
    return Costs(
        slot_bytes=more(with_slots(serving.num_parallel + 1)),
        tokens_1024_bytes=more(
            replace(serving, context_length=serving.context_length + CONTEXT_STEP)
        ),
        kv_cache_type_bytes={kind: more(with_cache(kind)) for kind in _kinds(serving.engine)},
        largest_num_parallel=_most(fit, with_slots, _MOST_SLOTS),
        largest_context_length=None if steps is None else tokens(steps),
    )


def _kinds(engine: str) -> list[KvCacheType]:
    """Those that the engine knows."""
    known = DEPLOYED[engine].options.values.get("kv_cache_type", ())
    return [kind for kind in KV_BYTES if kind in known]


def _trained_with(part: Part) -> int:
    """Tokens of the longest context that the model was trained with; 0 if nobody says it."""
    found = part.found
    if found.config is not None:
        return found.config.context_length
    return found.header.number("context_length") if found.header else 0


def _again(fit: Fit, serving: Serving) -> Fit:
    return judge([part.found for part in fit.parts], serving, fit.room)


def _most(fit: Fit, serving: Callable[[int], Serving], limit: int) -> int | None:
    """The largest number with which it fits, at most `limit`; None if that cannot be said."""
    if fit.fits is None:
        return None
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if _again(fit, serving(middle)).fits:
            low = middle
        else:
            high = middle - 1
    return low


def quantisations_of(fit: Fit) -> list[Quantisation]:
    """The model that answers in the usual quantisations, the best first; none if nobody knows how
    many parameters it has."""
    model, *others = fit.parts
    header = model.found.header
    if header is None or header.parameters == 0:
        return []
    found = []
    for name in USUAL:
        weights = bytes_of(header.parameters, name)
        shrunk = {
            tensor: count * weights // header.weights for tensor, count in header.tensors.items()
        }
        other = replace(header, weights=weights, tensors=shrunk)
        parts: list[Part] = [replace(model, found=replace(model.found, header=other)), *others]
        again = judge([part.found for part in parts], fit.serving, fit.room)
        found.append(Quantisation(name, weights, again.fits))
    return found
