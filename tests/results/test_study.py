"""A study finds its runs by the words that make them, keeps them as records, and says what they say."""

import json
import math
import random
from dataclasses import replace

import numpy as np
import pytest

from dsd.results import diverged, records
from dsd.results import statistics as st
from dsd.results.analysis import analyse
from dsd.results.figures import COLOURS, forest, points, weights
from dsd.results.learning import _mean_curve, curves
from dsd.results.members import belongs, command, missing, values
from dsd.results.report import section
from dsd.results.store import Store
from dsd.results.study import Arm, Claim, Metric, Row, Study

ERROR = Metric("test/error1", "test error", "%", "lower")
HELD_OUT = Metric("val/error1", "error held out", "%", "lower")
STUDY = Study(
    name="toy",
    title="Toy",
    question="Is it real?",
    words=("experiment=net", "profile=quick", "profiles.quick.dense=2", "baseline_seed=${seed}"),
    arms=(
        Arm("baseline", ("method=baseline",), without=("baseline_seed",)),
        Arm("finetune", ("method=finetune",)),
        Arm("dsd", ("method=dsd", "recipe.sparse.sparsity=0.5"), "DSD"),
    ),
    seeds=tuple(range(8)),
    metrics=(ERROR, HELD_OUT),
    rows=(Row("base", "baseline", published=8.26), Row("half", "dsd", 0), Row("end", "dsd", 1, 7.89, 0.03), Row("tune", "finetune")),
    claims=(
        Claim("DSD helps", "dsd", "baseline", "paired t"),
        Claim("The mask helps", "dsd", "finetune", "paired t"),
        Claim("DSD steadies", "dsd", "finetune", "paired t", spread=True),
    ),
    sweeps=("python run.py -cn toy",),
    margin=0.5,
    decomposition=("dsd", "finetune", "baseline"),
)  # fmt: skip


def config(method, seed, **more):
    return {
        "name": "net", "seed": seed, "method": {"name": method, "phases": [{"epochs": 1}]}, "recipe": {"sparse": {"sparsity": 0.5}},
        "profiles": {"quick": {"dense": 2}}, "baseline_seed": None if method == "baseline" else seed, "init_from": None if method == "baseline" else "b",
        "choices": {"experiment": "net", "profile": "quick"},
    } | more  # fmt: skip


def result(method, seed, error, **more):
    names = ["dense"] if method == "baseline" else ["sparse", "redense"]
    phases = [
        {"name": n, "epochs": 2, "updates": 20, "first": 0, "end": 20, "rate_first": 0.1, "rate_last": 0.1, "density": {},
         "sparsity": 0.5 if n == "sparse" else 0.0, "metrics": {"val/error1": error + 1}} for n in names
    ]  # fmt: skip
    history = [
        {"update": 10 * i, "epoch": float(i), "rate": 0.1, "train/loss": 1.0, "val/error1": error + 3 - i / 4}
        for i in range(1, 1 + 2 * len(names))
    ]
    run_id = f"{method}-{seed}{''.join(map(str, more))}"
    return {
        "schema": 1, "run_id": run_id, "name": "net", "method": method, "profile": "quick", "seed": seed, "config": config(method, seed, **more),
        "metrics": {"phases": phases, "test": {"test/error1": error, "test/n": 1000}}, "published": None, "history": history, "updates": 20,
        "images": 100, "seconds": 3.0, "images_per_second": 33.0, "restarts": 0, "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:00:03+00:00", "versions": {"torch": "2"}, "git": {"commit": "c"}, "hardware": {"cpu": "x"},
    }  # fmt: skip


def results(n=8, gain=2.0):
    draw = random.Random(1)
    found = []
    for seed in range(n):
        base = 10 + draw.gauss(0, 1)
        found += [result("baseline", seed, base), result("finetune", seed, base - gain / 2 + draw.gauss(0, 0.1))]
        found += [result("dsd", seed, base - gain + draw.gauss(0, 0.1))]
    return found


@pytest.fixture
def kept():
    return records.collect(STUDY, results())


def test_a_run_belongs_where_every_word_is_true_of_it():
    mine = config("dsd", 3)
    words = STUDY.words_of(STUDY.arm("dsd"))
    assert belongs(mine, words, 3)
    assert not belongs(mine, words, 4), "baseline_seed is another seed's"
    assert not belongs(mine, STUDY.words_of(STUDY.arm("finetune")), 3)
    assert not belongs(config("dsd", 3, recipe={"sparse": {"sparsity": 0.25}}), words, 3)
    assert not belongs(config("dsd", 3, profiles={}), words, 3), "a key that is not there is not a match"


def test_an_arms_word_replaces_the_studys():
    arm = Arm("whole", ("method=dsd", "baseline_seed=null"))
    assert STUDY.words_of(arm)[-2:] == arm.words
    assert "baseline_seed=${seed}" not in STUDY.words_of(arm)


def test_what_is_missing_is_a_command(kept):
    assert missing(STUDY, kept) == {}
    some = [r for r in kept if (r["arm"], r["seed"]) not in {("dsd", 3), ("dsd", 5)}]
    assert missing(STUDY, some) == {"dsd": [3, 5]}
    said = command(STUDY, "dsd", [3, 5])
    assert said.startswith(
        "python run.py -m experiment=net profile=quick profiles.quick.dense=2 'baseline_seed=${seed}'"
    )
    assert said.endswith("method=dsd recipe.sparse.sparsity=0.5 seed=3,5")
    assert " -m " not in command(STUDY, "dsd", [3])


def test_a_study_that_names_no_arm_of_its_own_is_refused():
    with pytest.raises(ValueError, match="nobody"):
        Study("x", "x", "x", (), (), (0,), (ERROR,), (Row("r", "nobody"),), (), (), 0.1)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"claims": (*STUDY.claims, Claim("DSD helps", "dsd", "finetune", "Welch t"))}, r"two claims.*'DSD helps'"),
        ({"arms": (*STUDY.arms, Arm("dsd", ("method=dsdsd",)))}, r"two arms.*'dsd'"),
        ({"decomposition": ("dsd", "tuned", "baseline")}, r"\['tuned'\], named in its decomposition"),
        ({"figure_arm": "DSD"}, r"\['DSD'\], named in its figure_arm"),
        (
            {"claims": (Claim("DSD helps", "dsd", "finetune", "paired"),)},
            "the test of claim 'DSD helps' is one of paired t, .* got 'paired'",
        ),
        (
            {"metrics": (replace(ERROR, better="less"),)},
            "the better of metric 'test/error1' is one of lower, higher, got 'less'",
        ),
        ({"words": ("experiment",)}, r"words are key=value.*baseline has \['experiment'\]"),
        ({"seeds": (0, 1, 1)}, r"arm baseline has a seed twice: \(0, 1, 1\)"),
        ({"margin": 0.0}, "margin"),
        ({"confidence": 95}, "confidence lies between 0 and 1, got 95"),
        ({"seeds": 4}, "seeds must be a tuple of int.*got 4"),
        ({"metrics": ERROR}, "metrics must be a tuple of Metric"),
        ({"claims": STUDY.claims[0]}, "claims must be a tuple of Claim"),
        ({"words": "profile=quick"}, "words must be a tuple of str, .* got 'profile=quick'"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(wrong, says):
    with pytest.raises(ValueError, match=f"study toy: {says}"):
        Study(**{**vars(STUDY), **wrong})


def test_the_letters_of_a_word_are_no_words():
    with pytest.raises(ValueError, match=r"study toy, arm dsd: words must be a tuple of str, as \(one,\) is"):
        replace(STUDY, arms=(*STUDY.arms[:2], Arm("dsd", "method=dsd")))


def test_a_study_is_called_as_a_file_is():
    with pytest.raises(ValueError, match="study 'my toy': its figures are files of that name"):
        replace(STUDY, name="my toy")


def test_a_study_without_a_metric_is_refused():
    with pytest.raises(ValueError, match="study toy has no metrics"):
        replace(STUDY, metrics=())


def test_two_runs_for_one_seed_are_an_error_that_says_how_they_differ():
    both = [result("dsd", 0, 8.0), result("dsd", 0, 8.1, observe=7)]
    with pytest.raises(
        ValueError, match=r"dsd-0 and dsd-0observe are both dsd, seed 0; they differ in observe \(None and 7\)"
    ):
        records.collect(STUDY, both)


def test_records_are_read_back_whole(tmp_path, kept):
    path = tmp_path / "records.jsonl"
    records.write(path, kept)
    assert records.read(path) == kept
    lines = path.read_text().splitlines()
    assert len(lines) == 25
    assert "recipe.sparse.sparsity" in json.loads(lines[0])["common"]["config"]
    assert "recipe.sparse.sparsity" not in lines[1], "what all share is written once"
    assert records.read(tmp_path / "absent") == []


def test_a_damaged_record_is_named(tmp_path, kept):
    path = tmp_path / "records.jsonl"
    records.write(path, kept)
    path.write_text(path.read_text()[:-50])
    with pytest.raises(ValueError, match=r"records.jsonl, line 25 is no record"):
        records.read(path)


def test_a_record_without_a_key_is_named(tmp_path, kept):
    path = tmp_path / "records.jsonl"
    records.write(path, kept[:2])
    path.write_text(path.read_text().replace('"arm":', '"arms":'))
    with pytest.raises(ValueError, match=r"records.jsonl, line 2 is no record of a run \('arm'\)"):
        records.read(path)


def test_records_may_hold_any_text(tmp_path, kept):
    odd = [kept[0] | {"config": {"note": "a\u2028b"}}, kept[1]]
    records.write(tmp_path / "records.jsonl", odd)
    assert records.read(tmp_path / "records.jsonl") == odd


def test_new_records_replace_old_ones(kept):
    new = [kept[0] | {"run_id": "other"}]
    merged = records.merge(kept, new)
    assert len(merged) == len(kept)
    assert [r["run_id"] for r in merged if r["run_id"] == "other"] == ["other"]


def test_records_come_from_the_store(tmp_path):
    made = result("dsd", 0, 8.0)
    Store(tmp_path).run(made["run_id"]).write_result(made)
    (one,) = records.collect(STUDY, Store(tmp_path).results())
    assert (one["arm"], one["seed"], one["test"]["test/error1"]) == ("dsd", 0, 8.0)


def test_a_verdict_on_some_of_the_declared_runs_says_so(kept):
    some = [r for r in kept if r["seed"] < 3 or r["arm"] == "baseline"]
    helps, mask, steady = analyse(STUDY, some).judged
    assert "; 5 of the 16 declared runs are missing" in helps.verdict.sentence
    assert "; 10 of the 16 declared runs are missing" in mask.verdict.sentence
    assert "; 10 of the 16 declared runs are missing" in steady.verdict.sentence
    assert "declared" not in "".join(judged.verdict.sentence for judged in analyse(STUDY, kept).judged)


def test_arms_that_share_no_seed_are_not_called_few(kept):
    apart = [r for r in kept if (r["seed"] < 4) == (r["arm"] == "dsd")]
    assert analyse(STUDY, apart).judged[0].why_not == "too few runs: 4 of dsd, 4 of baseline, and no seed in common"
    alone = [r for r in kept if r["arm"] != "dsd"]
    assert analyse(STUDY, alone).judged[0].why_not == "too few runs: 0 of dsd, 8 of baseline"


def test_seeds_and_arms_that_are_no_longer_declared_count_nowhere(kept):
    fewer = replace(STUDY, seeds=(0, 1, 2))
    found, old = analyse(fewer, [r | {"test": {}} if r["seed"] == 7 else r for r in kept]), analyse(fewer, kept[:0])
    assert {judged.verdict.n for judged in found.judged} == {3}
    page = section(found, kept, None)
    assert len(page.provenance["runs"]) == 9
    assert "(n = 3)" in next(figure for figure in page.figures if figure.name == "curves").file
    strange = [r | {"arm": "of old"} for r in kept]
    assert section(analyse(STUDY, strange), strange, None).figures == section(old, [], None).figures == ()


def test_equal_differences_are_not_called_odd(kept):
    """8.26 - 8.16 and 8.11 - 8.01 differ by 1e-15: no shape to test."""
    shown = [round(value, 2) for value in (8.26, 8.11, 8.05, 9.33, 7.77, 8.9, 8.42, 8.61)]
    runs = [result("finetune", i, v) for i, v in enumerate(shown)] + [
        result("dsd", i, round(v - 0.1, 2)) for i, v in enumerate(shown)
    ]
    mask = analyse(STUDY, records.collect(STUDY, runs)).judged[1]
    assert mask.verdict.outcome == "undecided"
    assert "not normal" not in mask.verdict.sentence
    assert "all 8 values are equal" in " ".join(mask.checks)


def test_a_real_gain_is_found_and_taken_apart(kept):
    found = analyse(STUDY, kept)
    verdicts = [judged.verdict.outcome for judged in found.judged]
    assert verdicts[:2] == ["supported", "supported"]
    assert found.decomposition.total.value == pytest.approx(-2, abs=0.2)
    assert found.decomposition.training.value + found.decomposition.method.value == pytest.approx(
        found.decomposition.total.value
    )
    p, holm = [j.p for j in found.judged], [j.holm for j in found.judged]
    assert all(h >= q for h, q in zip(holm, p, strict=True))
    assert min(holm) == pytest.approx(3 * min(p))


def test_the_table_gives_n_mean_sd_and_only_final_weights_are_tested(kept):
    base, half, end, tune = analyse(STUDY, kept).lines
    by_hand = [r["test"]["test/error1"] for r in kept if r["arm"] == "dsd"]
    mean = sum(by_hand) / 8
    assert end.summary.mean == pytest.approx(mean)
    assert end.summary.std == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in by_hand) / 7))
    assert half.summary is None, "the test set is not shown to a network in mid-plan"
    assert half.others[0].mean == pytest.approx(mean + 1)
    assert (half.sparsity, end.sparsity) == (0.5, 0.0)
    assert end.interval.low < mean < end.interval.high
    assert {line.summary.n for line in (base, end, tune)} == {8}


def test_without_runs_nothing_is_claimed():
    found = analyse(STUDY, [])
    assert all(judged.verdict is None and "too few runs" in judged.why_not for judged in found.judged)
    assert found.decomposition is None
    assert points(found) is forest(found) is curves(found, []) is None
    assert {name: len(seeds) for name, seeds in found.missing.items()} == {"baseline": 8, "finetune": 8, "dsd": 8}


def test_one_sample_needs_one_control(kept):
    claim = Claim("beats it", "dsd", "baseline", "one-sample t")
    study = Study(**{**vars(STUDY), "claims": (claim,)})
    with pytest.raises(ValueError, match="needs one run of baseline, found 8"):
        analyse(study, kept)
    lone = [r for r in kept if r["arm"] != "baseline" or r["seed"] == 0]
    (judged,) = analyse(study, lone).judged
    assert judged.verdict.outcome == "supported"
    assert judged.size.name == "d_z"
    assert judged.bootstrap.interval.low < judged.comparison.effect.value < judged.bootstrap.interval.high
    said = " ".join(judged.checks)
    assert all(word in said for word in ("Wilcoxon", "permutation", "TOST", "normality"))
    odd = [r | {"test": {"test/error1": 1.0}} if (r["arm"], r["seed"]) == ("dsd", 0) else r for r in lone]
    said = analyse(study, odd).judged[0].verdict.sentence
    assert "the values are not normal, but the permutation test finds p = 0.0078" in said, said


def of_values(kept, **arms):
    """The records with these values of the arms, in the order of the seeds, and no others."""
    return [
        r | {"test": {"test/error1": arms[r["arm"]][r["seed"]]}}
        for r in kept
        if r["seed"] < len(arms.get(r["arm"], ()))
    ]


@pytest.mark.parametrize("test", ["Welch t", "paired t"])
def test_one_outlier_does_not_make_the_other_arm_steady(kept, test):
    claim = Claim("DSD steadies", "dsd", "finetune", test, spread=True)
    study = Study(**{**vars(STUDY), "claims": (claim,), "seeds": tuple(range(5))})
    even = [8.00, 8.01, 8.02, 8.03, 8.04]
    (judged,) = analyse(study, of_values(kept, dsd=even, finetune=[8.01, 8.00, 8.03, 8.02, 9.5])).judged
    assert judged.p < 1e-4
    assert judged.verdict.outcome == "undecided"
    assert "if the values were normal; Brown-Forsythe F finds p = 0.3" in judged.verdict.sentence
    assert judged.verdict.sentence.endswith("finetune not normal: weigh the other tests below.")
    assert any(check.startswith("finetune: Warning: not normal") for check in judged.checks)
    (calm,) = analyse(study, of_values(kept, dsd=even, finetune=[7.0, 9.1, 8.1, 7.6, 8.5])).judged
    assert (calm.verdict.outcome, calm.caution) == ("supported", "")


def test_a_run_that_was_not_measured_leaves_its_claims_open_and_is_named(kept):
    lost = [r | {"test": {}} if (r["arm"], r["seed"]) == ("dsd", 3) else r for r in kept]
    found = analyse(STUDY, lost)
    assert [j.verdict for j in found.judged] == [None] * 3
    assert found.judged[0].why_not == "test/error1 is missing or no finite number: dsd with seed 3 (run dsd-3)"
    assert found.decomposition is None
    assert [line.summary is None for line in found.lines] == [False, True, True, False]
    other = Claim("halfway", "dsd", "finetune", "paired t", phase=5)
    study = Study(
        **{**vars(STUDY), "metrics": (HELD_OUT,), "claims": (*STUDY.claims, other), "rows": (Row("x", "dsd", 5),)}
    )
    found = analyse(study, kept)
    assert [j.verdict is None for j in found.judged] == [False, False, False, True]
    assert found.judged[3].why_not.startswith(
        "val/error1 after phase 6 is missing or no finite number: dsd with seed 0"
    )
    assert found.lines[0].epochs is None


def test_figures_say_in_words_what_they_show(kept):
    found = analyse(STUDY, kept)
    for figure, says in (
        (points(found), "tune: mean"),
        (forest(found), "dsd minus finetune"),
        (curves(found, kept), "DSD ends at"),
    ):
        assert says in figure.words
        assert figure.svg.startswith("<svg")
        assert "currentColor" in figure.svg
        assert "#010203" not in figure.svg + figure.file
        assert "prefers-color-scheme" in figure.file
    moment = {"label": "final", "edges": [-1, 0, 1], "counts": [3, 5], "zeros": 2, "std": 0.4}
    assert "final: 20 % exactly 0" in weights("toy", [moment], "fc", "abc").words


def test_an_arm_has_one_colour(kept):
    study = Study(**{**vars(STUDY), "rows": (Row("end", "dsd"), Row("tune", "finetune"))})
    for arm, colour in zip(("finetune", "dsd"), COLOURS[1:], strict=False):
        own = [r for r in kept if r["arm"] == arm]
        assert colour in points(analyse(study, own)).svg
        assert f"stroke: {colour}" in curves(analyse(study, own), own).svg
        assert not any(f": {c}" in points(analyse(study, own)).svg for c in COLOURS if c != colour)


def test_learning_curves_fill_their_panel(kept, monkeypatch):
    limits = []
    monkeypatch.setattr("dsd.results.learning.to_svg", lambda canvas: limits.append(canvas.axes[0].get_xlim()) or "")
    curves(analyse(STUDY, kept), kept)
    assert limits == [(0, 6)], "two epochs of the baseline, four from there"


def test_learning_curves_say_where_an_arm_ends_that_leaves_them(kept, monkeypatch):
    words, lost = [], 90.0

    def read(canvas):
        words.append([text.get_text() for text in canvas.axes[0].get_legend().get_texts()])
        return ""

    monkeypatch.setattr("dsd.results.learning.to_svg", read)
    key = STUDY.watched.key
    worse = [
        r | {"curve": r["curve"] | {key: [lost for _ in r["curve"][key]]}} if r["arm"] == "finetune" else r
        for r in kept
    ]
    for found in (kept, worse):
        curves(analyse(STUDY, found), found)
    assert not any("above" in text for text in words[0])
    assert [text.partition("), ")[2] for text in words[1] if "above" in text] == ["ends above: 90.00"]


def test_figures_are_the_same_every_time(kept):
    assert points(analyse(STUDY, kept)).svg == points(analyse(STUDY, kept)).svg


def test_pairs_that_go_together_are_not_taken_for_independent(kept):
    *_, steadies = analyse(STUDY, kept).judged
    assert steadies.spread.test == "Pitman-Morgan t"
    assert steadies.spread.apart < 0.05, "the seeds' own spread is common to both arms"
    alone = st.f_test(
        [r["test"]["test/error1"] for r in kept if r["arm"] == "dsd"],
        [r["test"]["test/error1"] for r in kept if r["arm"] == "finetune"],
        confidence=0.95,
    )
    assert steadies.spread.interval.high < alone.interval.high
    assert steadies.verdict.outcome == "not supported", "a ratio near 1 is shown by 8 pairs, hardly by 8 and 8"


def test_what_diverged_counts_against_its_arm(kept, tmp_path):
    folder = Store(tmp_path).run("dsd-3")
    folder.path.mkdir()
    folder.diverged.write_text(json.dumps({"run_id": "dsd-3", "seed": 3, "config": config("dsd", 3), "reason": "NaN"}))
    lost = diverged.collect(STUDY, Store(tmp_path).diverged())
    assert lost == [{"study": "toy", "arm": "dsd", "seed": 3, "run_id": "dsd-3", "reason": "NaN"}]
    left = [r for r in kept if (r["arm"], r["seed"]) != ("dsd", 3)]
    found = analyse(STUDY, left, lost)
    assert found.missing == {}, "its command would only diverge again"
    assert found.diverged == {"dsd": [3]}
    assert {j.verdict for j in found.judged} == {None}
    assert "dsd with 1 seed diverged" in found.judged[0].why_not
    assert found.decomposition is None
    assert analyse(STUDY, left).judged[0].verdict.outcome == "supported", "which the survivors alone would say"
    assert diverged.kept([], lost, left) == lost
    assert diverged.kept(lost, [], left) == lost, "without its folder, too"
    assert diverged.kept(lost, [], kept) == [], "it has been finished since"


def test_what_would_start_from_a_baseline_that_diverged_is_lost_with_it(kept):
    run = {"run_id": "b-3", "seed": 3, "config": config("baseline", 3), "reason": "NaN"}
    lost = diverged.collect(STUDY, [run])
    assert {(one["arm"], one["seed"], one["run_id"]) for one in lost} == {
        (a, 3, "b-3") for a in ("baseline", "dsd", "finetune")
    }
    found = analyse(STUDY, [r for r in kept if r["seed"] != 3], lost)
    assert found.missing == {}, "their commands would be refused"
    assert "diverged" in found.judged[1].why_not, "seven of eight seeds support nothing"
    again = {"study": "toy", "arm": "baseline", "seed": 3, "run_id": "b-3"}
    assert diverged.kept(lost, [], [again]) == [], "the baseline was tried again: its arms are missing, not lost"
    whole = Arm("whole", ("method=dsd", "baseline_seed=null"))
    assert (STUDY.first_seed(whole, 3), STUDY.first_seed(STUDY.arm("dsd"), 3)) == (None, 3)


def test_published_effects_are_those_of_the_rows():
    assert STUDY.published("dsd", "baseline") == pytest.approx(7.89 - 8.26)
    assert STUDY.published("dsd", "baseline", 0) is None, "half-way nothing was published"
    assert STUDY.published("dsd", "finetune") is None
    rows = (
        Row("tune", "finetune", 0, 8.16, 0.08),
        Row("tuned", "finetune", 1, 7.97, 0.04),
        Row("end", "dsd", 1, 7.89, 0.03),
    )
    study = replace(STUDY, rows=rows)
    assert study.published("dsd", "finetune") == pytest.approx(-0.08)
    assert study.published("dsd", "finetune", spread=True) == pytest.approx(0.75)


def test_a_verdict_says_when_its_test_does_not_fit(kept):
    assert analyse(STUDY, kept).judged[0].caution == ""
    odd = [r | {"test": {"test/error1": 40.0}} if (r["arm"], r["seed"]) == ("baseline", 0) else r for r in kept]
    said = analyse(STUDY, odd).judged[1].verdict.sentence
    assert said.endswith("the values are not normal, but the permutation test finds p = 0.0078."), said
    far = [r | {"test": {"test/error1": 4.0}} if (r["arm"], r["seed"]) == ("dsd", 0) else r for r in kept]
    said = analyse(STUDY, far).judged[1].verdict.sentence
    assert said.endswith("the differences are not normal: weigh the other tests below."), said


def test_equal_counts_of_errors_are_ties():
    noisy = [result("dsd", seed, 100 * (1 - np.float64(np.float32(1 - 0.0082)))) for seed in (0,)]
    (one,) = records.collect(STUDY, noisy)
    assert one["test"]["test/error1"] == 0.82


def test_learning_curves_are_means_of_what_was_measured(kept):
    key = STUDY.watched.key
    made = [r | {"curve": {"epoch": [1, 2, 3], key: [6.0, None, 5.0]}} for r in kept if r["arm"] == "finetune"]
    made += [r | {"curve": {"epoch": [1, 3], key: [4.0, 3.0]}} for r in kept if r["arm"] == "dsd"][:1]
    made += [r | {"curve": {"epoch": [1, 2, 3], key: [4.0, 4.0, 4.0]}} for r in kept if r["arm"] == "dsd"][1:]
    text = curves(analyse(STUDY, made), made).words
    assert "finetune ends at 5.00" in text
    assert "DSD ends at 3.88" in text, "(3 + 7 x 4) / 8"
    assert _mean_curve(made[:8], 0, key) == ([1, 3], [6.0, 5.0])


def test_where_more_is_better_the_lower_curves_are_cut_off(kept, monkeypatch):
    limits = []
    monkeypatch.setattr("dsd.results.learning.to_svg", lambda canvas: limits.append(canvas.axes[0].get_ylim()) or "")
    key = STUDY.watched.key
    study = replace(STUDY, metrics=(ERROR, replace(HELD_OUT, better="higher")))
    rising = [r | {"curve": r["curve"] | {key: [1.0, *range(90, 89 + len(r["curve"][key]))]}} for r in kept]
    figure = curves(analyse(study, rising), rising)
    assert "lower curves are cut off" in figure.title
    assert 1 < limits[0][0] < 90 < max(max(r["curve"][key]) for r in rising) < limits[0][1]


def test_seeds_that_an_arm_does_not_declare_do_not_count(kept):
    fewer = replace(STUDY, seeds=(0, 1, 2))
    assert set(values(fewer, kept, "dsd", ERROR)) == {0, 1, 2}
    assert analyse(fewer, kept).judged[0].comparison.effect.n == 3
