"""A baseline trained twice, on two machines, has one name and two sets of weights: runs from either are told apart."""

import hashlib

import pytest

from dsd.results import records
from dsd.results.analysis import analyse
from dsd.results.origins import digest, mixed
from dsd.results.report import html, markdown, section
from tests.results.test_study import STUDY, results

ONE, TWO = "1" * 64, "2" * 64


def kept(start, final=None):
    """`start`: of an arm and its seed, the weights, as records keep them."""
    found = records.collect(STUDY, results(4))
    for one in found:
        if one["arm"] == "baseline":
            one["run_id"] = f"b{one['seed']}"
            one |= {"final_sha256": final} if final else {}
        else:
            one["config"]["init_from"] = f"b{one['seed']}"
            one["config"] |= {"init_sha256": weights} if (weights := start(one["arm"], one["seed"])) else {}
    return found


@pytest.mark.parametrize(
    ("start", "final"),
    [
        (lambda arm, seed: None, None),
        (lambda arm, seed: None, ONE),  # records of before
        (lambda arm, seed: ONE, None),
        (lambda arm, seed: ONE, ONE),
        (lambda arm, seed: ONE if seed < 2 else None, None),  # seed by seed the same
    ],
)
def test_what_is_the_same_or_was_never_noted_is_no_matter(start, final):
    assert mixed(STUDY, kept(start, final)) == []


def test_arms_from_two_sets_of_weights_are_not_compared():
    found = kept(lambda arm, seed: TWO if (arm, seed) == ("dsd", 3) else ONE)
    (one,) = mixed(STUDY, found)
    assert (one.arms, one.certain) == ({"dsd", "finetune"}, True)
    assert one.sentence == (
        "the runs that start from b3 do not all start from the same weights "
        "(dsd with seed 3 from weights 222222222222; finetune with seed 3 from weights 111111111111)"
    )
    findings = analyse(STUDY, found)
    assert [j.why_not for j in findings.judged] == [one.sentence] * 3
    assert findings.decomposition is None
    made = [section(findings, found, None)]
    assert f"Beware</b>: {one.sentence}." in html("Toy", made, "again")
    assert f"**Beware**: {one.sentence}." in markdown("Toy", made, "again")


def test_a_baseline_that_was_trained_again_is_not_the_one_they_came_from():
    (one, *rest) = mixed(STUDY, kept(lambda arm, seed: ONE, final=TWO))
    assert len(rest) == 3
    assert one.certain
    assert "its own record has weights 222222222222" in one.sentence


def test_what_was_not_noted_beside_what_was_is_told_and_tested():
    found = kept(lambda arm, seed: ONE if arm == "dsd" else None)
    assert {one.certain for one in mixed(STUDY, found)} == {False}
    assert "may not all start from the same weights" in mixed(STUDY, found)[0].sentence
    assert "finetune with seed 0 from weights that were not noted" in mixed(STUDY, found)[0].sentence
    findings = analyse(STUDY, found)
    assert all(j.verdict for j in findings.judged)


def test_a_digest_is_of_what_is_in_the_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
