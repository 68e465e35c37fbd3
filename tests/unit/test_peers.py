"""How benchmarks/peers.py judges load generators."""

import pytest
from measuring import Figures, Used
from peer_tools import Load, Ttft
from peers import ANSWER_S, COLUMNS, Outcome, add, offered_share


def truths(clients, rounds, pause=0.0, ttft=0.2):
    """What the server saw of clients that wait for `pause` seconds between two requests."""
    starts = [turn * (ANSWER_S + pause) for turn in range(rounds)]
    ends = {"first": ttft, "last": ANSWER_S}
    return [
        {"received": at, **{key: at + after for key, after in ends.items()}}
        for at in starts
        for _ in range(clients)
    ]


def test_clients_that_never_pause_offer_all_of_the_load():
    assert offered_share(truths(4, 20), 4) == pytest.approx(1)


def test_clients_that_pause_for_as_long_as_an_answer_takes_offer_half():
    assert offered_share(truths(4, 41, pause=ANSWER_S), 4) == pytest.approx(0.5, abs=0.02)
    assert offered_share(truths(2, 20), 4) == pytest.approx(0.5)


def test_warm_up_is_no_part_of_the_load():
    warm_up = {"received": -3.0, "first": -2.8, "last": -1.5}
    assert offered_share([warm_up, *truths(64, 13)], 64) == pytest.approx(1, abs=0.001)


def test_error_is_what_is_reported_less_what_was_true():
    made = Outcome(
        Ttft(mean=0.21, p99=0.25), Used(0, 1.5, 40.0, 20.0, ""), 42.0, {}, truths(4, 20, ttft=0.201)
    )
    figures = Figures()
    add(figures, made, 4)
    assert [figures.median(name) for name in COLUMNS] == pytest.approx([9, 49, 100, 1.5, 42])


def test_prompts_of_a_load_suffice_for_all_its_requests(tmp_path):
    load = Load("http://x", 4, 3, ANSWER_S, 64, tmp_path)
    assert len(load.prompts("text").read_text().splitlines()) == load.requests == 12
