"""Plans: exact boundaries, and every learning rate of a schedule written out."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsd.plan import (
    Constant,
    Cosine,
    Drops,
    Exponential,
    Inv,
    MultiStep,
    Phase,
    Plan,
    Polynomial,
    Step,
    Times,
    Warmup,
    flat,
    repeated,
)
from dsd.sparsity import Sparse
from dsd.sparsity.allocation import per_layer

WEIGHTS = {"a": torch.linspace(0.1, 1, 100).reshape(10, 10), "b": torch.linspace(1, 2, 100).reshape(10, 10)}


def rates(schedule, epochs, per_epoch):
    plan = Plan((Phase("only", epochs, schedule),), per_epoch)
    return [plan.rate(u) for u in range(plan.updates)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(0.5), [0.5] * 6),
        (Times(0.1), [0.1] * 6),
        (Step(1.0, every=1, factor=0.1), [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]),
        (Step(1.0, every=0.5, factor=0.5), [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        (MultiStep(1.0, at=(1, 2.5), factor=0.1), [1.0, 1.0, 0.1, 0.1, 0.1, 0.01]),
        (Drops(1.0, parts=(1 / 3, 0.9), factor=0.1), [1.0, 1.0, 0.1, 0.1, 0.1, 0.1]),
        (Drops(1.0, parts=(0.33333333, 0.66666667), factor=0.1), [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]),
        (Exponential(1.0, 0.5), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]),
        (Exponential(1.0, 0.25, staircase=False), [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        (Cosine(1.0), [1.0, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]),
        (Cosine(1.0, final=0.5), [1.0, 0.96650635, 0.875, 0.75, 0.625, 0.53349365]),
        (Polynomial(1.0, power=1), [1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        (Polynomial(1.0, power=2), [1.0, 25 / 36, 16 / 36, 9 / 36, 4 / 36, 1 / 36]),
        (Inv(1.0, gamma=1.0, power=1.0), [1.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6]),
        (Warmup(Constant(1.0), epochs=2, start=0.0), [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]),
        (Warmup(Step(1.0, every=1, factor=0.1), epochs=1, start=0.5), [0.5, 0.75, 0.1, 0.1, 0.01, 0.01]),
    ],
)
def test_every_rate_of_a_schedule(schedule, expected):
    assert rates(schedule, 3, 2) == pytest.approx(expected, abs=1e-7)


def test_published_schedules():
    """fb.resnet.torch drops CIFAR's rate at epochs 81 and 122; Caffe's LeNet ends at 0.01 x 2 ** -0.75."""
    fb = rates(MultiStep(0.1, at=(81, 122), factor=0.1), 164, 1)
    assert [fb[80], fb[81], fb[121], fb[122], fb[163]] == pytest.approx([0.1, 0.01, 0.01, 0.001, 0.001])
    assert Inv(0.01, 1e-4, 0.75)(Plan_moment(10_000)) == pytest.approx(0.01 * 2**-0.75)


def Plan_moment(update):
    from dsd.plan import Moment

    return Moment(update, update + 1, 1)


def test_phases_change_at_the_exact_update():
    plan = Plan(
        (Phase("dense", 2, Constant(1)), Phase("sparse", 1.25, Constant(2)), Phase("redense", 1, Constant(3))), 8
    )
    assert plan.spans == ((0, 16), (16, 26), (26, 34))
    assert [plan.phase(u).name for u in (0, 15, 16, 25, 26, 33, 34, 999)] == [
        "dense", "dense", "sparse", "sparse", "redense", "redense", "redense", "redense",
    ]  # fmt: skip
    assert [plan.rate(u) for u in (15, 16, 25, 26)] == [1, 2, 2, 3]
    assert (plan.updates, plan.epochs) == (34, 5)


@given(st.lists(st.floats(1, 30), min_size=1, max_size=6), st.integers(1, 500))
def test_spans_tile_the_plan(epochs, per_epoch):
    plan = Plan(tuple(Phase(str(i), e, Constant(1)) for i, e in enumerate(epochs)), per_epoch)
    assert [first for first, _ in plan.spans] == [0, *plan.ends[:-1]]
    assert abs(plan.updates - sum(epochs) * per_epoch) <= 0.5 + 1e-6
    assert all(plan.index(first) == plan.index(end - 1) == i for i, (first, end) in enumerate(plan.spans))
    assert all(abs((end - first) - e * per_epoch) <= 1 for (first, end), e in zip(plan.spans, epochs, strict=True))


@given(st.integers(0, 400))
def test_a_plan_is_a_pure_function(update):
    plan = Plan((Phase("a", 3, Cosine(1)), Phase("b", 2, Inv(0.1, 0.01, 0.75))), 40)
    again = Plan((Phase("a", 3, Cosine(1)), Phase("b", 2, Inv(0.1, 0.01, 0.75))), 40)
    assert (plan.rate(update), plan.index(update)) == (again.rate(update), again.index(update))


def test_repeated_is_dsdsd():
    rounds = repeated(
        [Phase("sparse", 2, Constant(1), Sparse(0.5)), Phase("redense", 2, Times(1))], 2, decay=0.1, thin=0.5
    )
    phases = flat([Phase("dense", 1, Constant(1)), rounds])
    assert [p.name for p in phases] == ["dense", "sparse1", "redense1", "sparse2", "redense2"]
    assert [Plan(phases, 1).rate(u) for u in range(5)] == pytest.approx([1, 1, 1, 0.1, 0.1])
    assert [p.rate.relative for p in phases] == [False, False, True, False, True]
    assert [p.epochs for p in phases] == [1, 1, 1, 1, 1]
    kept = [p.constraint and int(p.constraint.choose(WEIGHTS, evidence={}, seed=0)["a"].sum()) for p in phases]
    assert kept == [None, 50, None, 75, None]


def test_a_round_is_thinner_in_layers_that_have_a_sparsity_of_their_own():
    table = partial(per_layer, table={"b": 0.8})
    first, second = repeated([Phase("sparse", 2, Constant(1), Sparse(0.5, allocation=table))], 2, thin=0.5)
    kept = [p.constraint.choose(WEIGHTS, evidence={}, seed=0) for p in (first, second)]
    assert [[int(keep.sum()) for keep in mask.values()] for mask in kept] == [[50, 20], [75, 60]]


def test_rounds_may_be_whole_and_each_phase_may_slow_down_by_its_own_factor():
    phases = [Phase("sparse", 2, Constant(5.0)), Phase("redense", 3, Constant(3.0))]
    rounds = repeated(phases, 2, decay=(0.2, 0.1), whole=True)
    assert [(p.name, p.epochs, Plan((p,), 1).rate(0)) for p in rounds] == [
        ("sparse1", 2, 5.0), ("redense1", 3, 3.0), ("sparse2", 2, 1.0), ("redense2", 3, pytest.approx(0.3)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Plan((), 10), "at least one phase"),
        (lambda: Plan((Phase("a", 1, Constant(1)), Phase("a", 1, Constant(1))), 10), "different names"),
        (lambda: Plan((Phase("a", 0.01, Constant(1)),), 10), "less than one update"),
        (lambda: Plan((Phase("a", 1, Constant(1)),), 0), "updates_per_epoch"),
        (lambda: Phase("a", 0, Constant(1)), "epochs"),
        (lambda: Phase("a", float("inf"), Constant(1)), "epochs"),
        (lambda: Plan((Phase("a", 1, Constant(1)),), 1).rate(-1), "count from 0"),
        (lambda: repeated([], 0), "times"),
        (lambda: repeated([Phase("a", 1, Constant(1))], 2, decay=(1, 2)), "one of each of the 1 phases"),
    ],
)
def test_bad_plans_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_a_rate_must_be_a_schedule():
    with pytest.raises(TypeError, match=r"Constant\(0.1\)"):
        Phase("a", 1, 0.1)
