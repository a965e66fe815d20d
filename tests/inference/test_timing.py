"""Medians, intervals, and turns that the system disturbed."""

import math
import time

import pytest
import torch

from dsd.inference.timing import Timing, bandwidth, interleaved, interval


@pytest.mark.parametrize(("n", "outside"), [(1, 0), (3, 0), (5, 0), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (20, 5)])
def test_intervals_are_the_textbook_order_statistics(n, outside):
    values = list(range(n))
    assert interval(values[::-1]) == (outside, n - 1 - outside)


@pytest.mark.parametrize("n", range(6, 40))
def test_an_interval_holds_the_median_with_95_percent_and_is_the_narrowest_that_does(n):
    low, high = interval(list(range(n)))
    chance = [sum(math.comb(n, k) for k in range(out + 1)) / 2 ** (n - 1) for out in (low, low + 1)]
    assert high == n - 1 - low
    assert chance[0] <= 0.05 or low == 0
    assert chance[1] > 0.05


def test_disturbed_turns_do_not_count_if_enough_others_do():
    turns = [(1.0, False), (9.0, True), (2.0, False), (3.0, False), (8.0, True)]
    assert Timing.of(turns) == Timing(2.0, 1.0, 3.0, 5, 3)
    assert Timing.of(turns[:3]) == Timing(1.5, 1.0, 2.0, 3, 2)  # too few: the faster half
    assert Timing.of([(5.0, True)]) == Timing(5.0, 5.0, 5.0, 1, 0)


@pytest.mark.parametrize("long", [True, False], ids=["a turn of one call", "a turn of many"])
def test_a_turn_is_disturbed_if_a_core_was_taken_away_in_it(long, monkeypatch):
    torch.set_num_threads(2)
    taken = iter(range(1000))
    work = {"a": lambda: time.sleep(0.03 if long else 0.001)}
    assert interleaved(work, rounds=3)["a"].turns == 3
    monkeypatch.setattr("dsd.inference.timing._taken", lambda: next(taken))
    assert interleaved(work, rounds=3)["a"].quiet == 0
    monkeypatch.setattr("dsd.inference.timing._taken", lambda: 7)
    assert interleaved(work, rounds=3)["a"].quiet == 3


def test_arms_take_turns():
    torch.set_num_threads(2)  # by the wall clock: of one thread only what it computes counts, and sleep is nothing
    order = []
    found = interleaved({"a": lambda: order.append("a") or time.sleep(0.03), "b": lambda: order.append("b") or time.sleep(0.06)}, rounds=3)  # fmt: skip
    assert order == ["a", "b"] * 4  # once to warm up, then three rounds
    assert 0.03 <= found["a"].low <= found["a"].median <= found["a"].high
    assert found["b"].median >= 0.06


def test_a_budget_ends_the_rounds():
    torch.set_num_threads(2)
    found = interleaved({"a": lambda: time.sleep(0.03)}, rounds=1000, budget=0.1)
    assert 2 <= found["a"].turns <= 5


def test_one_thread_is_timed_by_its_own_clock():
    torch.set_num_threads(1)
    found = interleaved({"sleeps": lambda: (time.sleep(0.002), sum(range(200_000)))}, rounds=2)
    assert found["sleeps"].quiet == found["sleeps"].turns == 2
    assert found["sleeps"].median > 0
    alone = interleaved({"works": lambda: sum(range(200_000))}, rounds=2)
    assert found["sleeps"].median < 3 * alone["works"].median + 0.001


def test_bandwidth_is_that_of_a_machine():
    assert 1e8 < bandwidth() < 1e13
