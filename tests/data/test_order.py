from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd.data.order import Order, generator

sizes = st.fixed_dictionaries({"n": st.integers(1, 60), "batch_size": st.integers(1, 17), "seed": st.integers(0, 9)})


def batches(order):
    return [batch.tolist() for batch in order]


@given(sizes, st.integers(0, 5))
def test_one_epoch_is_every_index_once(size, epoch):
    order = Order(**size)
    order.set_epoch(epoch)
    assert sorted(chain.from_iterable(batches(order))) == list(range(size["n"]))


@given(sizes, st.integers(1, 5), st.integers(0, 3))
def test_training_ranks_get_equal_batches_that_cover_everything(size, world, epoch):
    orders = [Order(**size, rank=rank, world=world) for rank in range(world)]
    for order in orders:
        order.set_epoch(epoch)
    parts = [batches(order) for order in orders]
    assert [[len(batch) for batch in part] for part in parts] == [[len(batch) for batch in parts[0]]] * world
    assert [len(order) for order in orders] == [len(parts[0])] * world
    dealt = [list(chain.from_iterable(part)) for part in parts]
    in_turn = [index for group in zip(*dealt, strict=True) for index in group]
    alone = Order(**size)
    alone.set_epoch(epoch)
    permutation = list(chain.from_iterable(batches(alone)))
    assert in_turn == np.resize(permutation, len(in_turn)).tolist()  # the permutation, then its beginning again
    assert len(in_turn) - size["n"] < world


@given(sizes, st.integers(1, 5))
def test_evaluation_over_all_ranks_is_every_index_exactly_once(size, world):
    world = min(world, size["n"])
    parts = [batches(Order(**size, rank=rank, world=world, shuffle=False)) for rank in range(world)]
    assert sorted(index for part in parts for batch in part for index in batch) == list(range(size["n"]))


@given(sizes, st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_does_not_depend_on_what_was_iterated_before(size, epoch, other):
    used, fresh = Order(**size), Order(**size)
    used.set_epoch(other)
    list(used)
    used.set_epoch(epoch)
    fresh.set_epoch(epoch)
    assert batches(used) == batches(fresh)


@given(sizes, st.data())
def test_first_gives_the_tail_once_and_len_stays_full(size, data):
    whole = batches(Order(**size))
    first = data.draw(st.integers(0, len(whole)))
    order = Order(**size, first=first)
    assert len(order) == len(whole)
    assert batches(order) == whole[first:]
    assert len(order) == len(whole)
    assert batches(order) == whole


def test_making_an_iterator_twice_before_the_first_batch_keeps_first():
    order = Order(10, 2, seed=0, first=3)
    iter(order)
    assert len(batches(order)) == 2


def test_golden_permutation():
    order = Order(8, 3, seed=0)
    assert batches(order) == [[7, 0, 1], [6, 5, 2], [3, 4]]
    order.set_epoch(1)
    assert batches(order) == [[3, 2, 1], [0, 6, 4], [7, 5]]


def test_seeds_epochs_and_streams_differ():
    draws = {
        generator(*place).integers(2**62) for place in [(0, 0), (0, 1), (1, 0), (0, 0, 0), (0, 0, 0, 0), (0, 0, 1)]
    }
    assert len(draws) == 6


def test_drop_last_drops_the_incomplete_batch():
    assert [len(batch) for batch in Order(10, 4, seed=0, drop_last=True)] == [4, 4]
    assert [len(batch) for batch in Order(10, 2, seed=0, drop_last=True, world=3, rank=2)] == [2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": 0}, "n=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"rank": 1}, "rank must be in"),
        ({"seed": -1}, "seed must be >= 0"),
        ({"first": 4}, r"0\.\.3 batches"),
        ({"n": 3, "drop_last": True}, "leaves no batch"),
        ({"n": 3, "shuffle": False, "world": 4}, "4 processes can't evaluate 3 samples"),
    ],
)
def test_bad_orders_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Order(**{"n": 10, "batch_size": 4, "seed": 0} | change)


def test_another_order_cannot_continue_a_checkpoint():
    state = Order(10, 4, seed=0).state_dict()
    Order(10, 4, seed=0, first=1).load_state_dict(state)
    with pytest.raises(ValueError, match="batch_size was 4, is 5"):
        Order(10, 5, seed=0).load_state_dict(state)
