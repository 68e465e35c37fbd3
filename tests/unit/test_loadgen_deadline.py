"""The time that a request may take, on a connection that carries many."""

import asyncio
from time import perf_counter

from loadgen.load.timer import Deadline

#: Deadlines that a test waits for: one long enough that no machine gets there by itself, one short.
NEVER_S, SOON_S = 600.0, 0.02


def test_a_request_fails_at_its_own_deadline_whatever_timer_an_earlier_one_left():
    """An earlier request left a timer for much later, then one for much sooner."""

    async def failures(earlier_s, own_s):
        failed = asyncio.get_running_loop().create_future()
        deadline = Deadline(lambda *words: failed.set_result((perf_counter(), words)))
        deadline.set(perf_counter(), earlier_s)
        deadline.clear()
        begun = perf_counter()
        deadline.set(begun, own_s)
        at, words = await failed
        deadline.close()
        return at - begun, words

    for earlier_s, own_s in ((NEVER_S, SOON_S), (SOON_S, 5 * SOON_S)):
        took, words = asyncio.run(failures(earlier_s, own_s))
        assert took >= own_s and words == ("timeout", f"no end in {own_s:g} s")


def test_what_has_ended_never_fails():
    async def rung():
        failed = []
        deadline = Deadline(lambda *words: failed.append(words))
        deadline.set(perf_counter(), SOON_S)
        deadline.clear()
        await asyncio.sleep(3 * SOON_S)
        return failed

    assert asyncio.run(rung()) == []
