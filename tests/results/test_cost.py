"""Costs are sums over a run and what it starts from."""

import pytest

from dsd.results.cost import costs
from dsd.results.study import Arm, Metric, Row, Study

STUDY = Study(
    name="s", title="", question="", source="", words=(), seeds=(0, 1), metrics=(Metric("val/error1", "e", "%", "lower"),),
    arms=(Arm("baseline", ()), Arm("dsd", (), "DSD"), Arm("none", ())), rows=(Row("DSD", "dsd"),), claims=(), sweeps=(), margin=0.1,
)  # fmt: skip


def record(run_id, arm, seed, seconds, phases, before=None, study="s"):
    updates = sum(n for n, _ in phases)
    return {
        "study": study, "arm": arm, "seed": seed, "run_id": run_id, "config": {"init_from": before}, "updates": updates,
        "images": 10 * updates, "seconds": seconds, "phases": [{"updates": n, "sparsity": s} for n, s in phases],
    }  # fmt: skip


def test_a_shared_first_phase_counts_for_each_arm_that_starts_from_it():
    records = [
        record("b0", "baseline", 0, 5.0, [(100, 0.0)]),
        record("b1", "baseline", 1, 7.0, [(100, 0.0)]),
        record("d0", "dsd", 0, 20.0, [(50, 0.5), (50, 0.0)], "b0"),
        record("d1", "dsd", 1, 30.0, [(50, 0.5), (50, 0.1)], "b1"),
    ]
    baseline, dsd = costs(STUDY, records)
    assert (baseline.label, baseline.updates, baseline.shared, baseline.seconds, baseline.work) == (
        "baseline",
        100,
        0,
        6.0,
        1.0,
    )
    assert (dsd.label, dsd.updates, dsd.shared, dsd.images, dsd.seconds) == ("DSD", 200, 100, 2000, 31.0)
    assert dsd.work == pytest.approx((100 + 25 + (50 + 45) / 2) / 200)


def test_the_first_phase_may_be_in_another_study_or_nowhere():
    elsewhere = record("b0", "baseline", 0, 5.0, [(100, 0.0)], study="other")
    (known,) = costs(STUDY, [elsewhere, record("d0", "dsd", 0, 1.0, [(50, 0.5)], "b0")])
    (unknown,) = costs(STUDY, [record("d0", "dsd", 0, 1.0, [(50, 0.5)], "gone")])
    assert (known.updates, known.shared, unknown.updates, unknown.shared) == (150, 100, 50, 0)
    assert costs(STUDY, []) == ()


def test_of_a_run_that_two_studies_have_from_two_machines_each_counts_its_own():
    own = [record("b0", "baseline", 0, 5.0, [(100, 0.0)]), record("d0", "dsd", 0, 1.0, [(50, 0.5)], "b0")]
    slower = record("b0", "baseline", 0, 9.0, [(100, 0.0)], study="other")
    for records in ([slower, *own], [*own, slower]):
        assert [cost.seconds for cost in costs(STUDY, records)] == [5.0, 6.0]
