"""The search for the highest load within an SLO, against queues whose limit is known."""

import numpy as np
import pytest
from known_queue import Circle, Queue

from campaign.search import Search

SEARCHES, SEARCHES_OF_CLIENTS, GOOD = 200, 40, 0.95
#: 8 slots that take 0.4 s, of which a good request waits at most 0.1 s; and its limit.
QUEUE, LIMIT = Queue(8, 0.4, 0.1), 12.44


def searched(requests, **how):
    """So many searches, seeded, each run a chance of its own."""
    found, dice = [Search(1, 200, GOOD, **how) for _ in range(SEARCHES)], np.random.default_rng(1)
    while asked := [(one, rate) for one in found if (rate := one.next()) is not None]:
        good = QUEUE.good(np.array([rate for _, rate in asked]), requests, dice)
        for (one, rate), count in zip(asked, good.tolist(), strict=True):
            one.tell(rate, count, requests)
    return [one.estimate for one in found]


def asked(good, low, high, **how):
    """A search of a server that is good for all requests or for none, and what was asked."""
    search, rates = Search(low, high, GOOD, **how), []
    while (rate := search.next()) is not None:
        rates.append(rate)
        search.tell(rate, 1000 if good(rate) else 0, 1000)
    return search.estimate, rates


def test_the_limit_of_the_queue_is_as_said():
    assert QUEUE.share(LIMIT) == pytest.approx(GOOD, abs=0.003)


def test_a_limit_is_found_within_a_twentieth_in_ten_runs():
    found = searched(requests=4000)
    off = [abs(one.value / LIMIT - 1) for one in found]
    assert max(one.runs for one in found) <= 10
    assert sum(one < 0.05 for one in off) >= SEARCHES * 0.995
    assert {one.where for one in found} == {"inside"}
    assert sum(one.low <= LIMIT <= one.high for one in found) >= SEARCHES * 0.9


@pytest.mark.parametrize("limit", [1.5, 17, 180])
def test_a_step_is_found_wherever_it_is(limit):
    found, rates = asked(lambda rate: rate <= limit, 1, 200)
    assert found.value == pytest.approx(limit, rel=0.05)
    assert len(rates) == found.runs <= 10


def test_numbers_of_clients_are_whole():
    found, clients = asked(lambda clients: clients <= 12, 1, 64, whole=True)
    assert found.value == 12
    assert all(one == round(one) for one in clients)
    assert len(clients) < 10


@pytest.mark.parametrize(
    ("circle", "limit"),
    [
        (Circle(4, 0.4, 0.02), 4),
        (Circle(8, 0.4, 0.15), 9),
        (Circle(16, 0.4, 0.15), 18),
        (Circle(64, 0.4, 0.15), 80),
    ],
    ids=str,
)
def test_the_most_clients_of_a_known_server_are_found(circle, limit):
    """Of 1 to 200 clients, each of which has 50 answers; each search has chances of its own."""
    assert circle.limit(GOOD) == limit
    off, runs, dice = [], [], np.random.default_rng(1)
    for _ in range(SEARCHES_OF_CLIENTS):
        search = Search(1, 200, GOOD, whole=True)
        while (clients := search.next()) is not None:
            of = int(clients) * 50
            search.tell(clients, circle.good(int(clients), of, dice), of)
        off.append(abs(search.estimate.value - limit))
        runs.append(search.estimate.runs)
    assert max(runs) <= 10
    assert max(off) <= max(1, limit * 0.05)


@pytest.mark.parametrize(("good", "where", "value"), [(True, "above", 200), (False, "below", 1)])
def test_a_limit_outside_the_range_is_said(good, where, value):
    found, rates = asked(lambda rate: good, 1, 200)
    assert (found.where, found.value) == (where, value)
    assert all(1 <= rate <= 200 for rate in rates)
    assert value in rates


def test_the_same_answers_lead_to_the_same_next_run():
    """So a search that was interrupted goes on from what its ledger has."""
    one, other = Search(1, 200, GOOD), Search(1, 200, GOOD)
    for good in (900, 10, 955):
        rate = one.next()
        assert rate == one.next() == other.next()
        one.tell(rate, good, 1000)
        other.tell(rate, good, 1000)
    assert one.estimate == other.estimate


def test_a_run_without_requests_tells_nothing_but_ends_the_search():
    search = Search(1, 200, GOOD, most=2)
    before = search.next()
    search.tell(before, 0, 0)
    assert search.next() == before
    search.tell(before, 0, 0)
    assert search.next() is None


@pytest.mark.parametrize("wrong", [(0, 10, 0.95), (10, 10, 0.95), (1, 10, 1.0), (1, 10, 0.0)])
def test_a_search_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="makes no sense"):
        Search(*wrong)
