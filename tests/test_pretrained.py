"""`python -m experiments.pretrained`: what it changes, that it evaluates once, and that its report is what its results say."""

import json

import pytest
import torch
from statsmodels.stats.contingency_tables import mcnemar

from dsd.oneshot import pruned
from experiments import pretrained, pretrained_report, squeezenet
from experiments.evaluation import NETWORKS, Change, Evaluation
from experiments.pretrained import FOLDER, Point, main, measure, points

RESULTS = json.loads((FOLDER / "results.json").read_text())
PLAN = {name: points(name) for name in NETWORKS}
UNCHANGED = {"efficientnet_lite0": 60, "squeezenet": 50}  # at least so many of the first images are right, in %


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    shapes = {"stem.weight": (8, 3, 3, 3), "depthwise.weight": (8, 1, 5, 5), "fc.weight": (10, 40), "norm.weight": (8,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def test_the_report_and_its_figures_come_from_the_results(tmp_path):
    pretrained_report.write(RESULTS, PLAN, tmp_path)
    assert (tmp_path / "report.md").read_text() == (FOLDER / "report.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()} - {"results.json"}
    assert all("</svg>" in path.read_text() for path in tmp_path.glob("*.svg"))
    assert "/root" not in json.dumps(RESULTS)


def test_a_codebook_is_of_every_weight_and_of_no_norm():
    before = state()
    after = Point("k-means", 3, init="Forgy")(before)
    assert all(after[name].unique().numel() == 8 for name in before if name != "norm.weight")
    assert torch.equal(after["norm.weight"], before["norm.weight"])


def test_uniform_values_have_equal_steps_from_the_smallest_weight_to_the_largest():
    before = state()
    after = Point("uniform", 3)(before)
    for name in ("stem.weight", "fc.weight"):
        step = float(before[name].max() - before[name].min()) / 7
        number = (after[name] - before[name].min()) / step
        assert torch.allclose(number, number.round(), atol=1e-4)
        assert float((after[name] - before[name]).abs().max()) <= 0.5001 * step


def test_pruning_comes_before_the_codebook():
    before = state()
    after = Point("pruned, k-means", 2, sparsity=0.75, init="linear")(before)
    zero = {name: value == 0 for name, value in pruned(before, 0.75).items()}
    assert all(torch.equal(after[name] == 0, zero[name]) for name in before)
    assert all(after[name].unique().numel() == 5 for name in before if name != "norm.weight")


def test_points_are_different_and_begin_with_the_unchanged_weights():
    assert all(len(set(plan)) == len(plan) and plan[0] == Point("as trained") for plan in PLAN.values())
    assert {(p.arm, p.init, p.bits) for p in PLAN["squeezenet"]} >= {
        ("k-means", init, bits) for init in ("linear", "density", "Forgy") for bits in range(2, 9)
    }


def test_a_change_is_judged_as_statsmodels_does():
    before, now = {"right": "ff0f", "n": 16}, {"right": "f0ff", "n": 16}
    change = Change.of(before, {"right": "8fff", "n": 16})
    assert (Change.of(before, now).won, Change.of(before, now).lost, Change.of(before, now).p) == (4, 4, 1.0)
    assert (change.won, change.lost, change.difference) == (4, 3, 100 / 16)
    assert change.p == pytest.approx(mcnemar([[9, 3], [4, 0]], exact=True).pvalue)
    assert Change.of(before, before).half == 0


def test_the_report_says_what_is_missing():
    shas = {row["sha256"] for row in RESULTS["networks"]["efficientnet_lite0"]["rows"][:1]}
    little = {**RESULTS, "evaluations": {sha: RESULTS["evaluations"][sha] for sha in shas}}
    text = pretrained_report.missing("efficientnet_lite0", little, PLAN)
    assert f"{len(PLAN['efficientnet_lite0']) - 1} of {len(PLAN['efficientnet_lite0'])} points" in text
    assert "k-means, linear (8, 7, 6, 5, 4, 3, 2 bits)" in text
    assert "0.1 at 5, 6, 8 bits" in text
    assert "as trained" not in text


def test_the_published_network_takes_as_many_bytes_as_in_its_own_report():
    own = json.loads((squeezenet.FOLDER / "results.json").read_text())["rows"]
    rows = {
        (r["arm"], r["bits"]): r for r in RESULTS["networks"]["squeezenet"]["rows"] if r["init"] in (None, "linear")
    }
    assert rows["as trained", None]["bytes"] == own["as published"]["bytes"]["best"]
    for bits in range(2, 9):
        row = rows["k-means", bits]
        assert (row["sha256"], row["bytes"]) == (own[f"{bits} bits"]["sha256"], own[f"{bits} bits"]["bytes"]["best"])


def test_two_commands_keep_what_the_other_found(tmp_path):
    path = tmp_path / "results.json"
    for name, sha in (("squeezenet", "a"), ("efficientnet_lite0", "b"), ("squeezenet", "c")):
        pretrained.keep(path, name, {"rows": [{"sha256": sha}]}, {sha: {"top1": 1.0, "seconds": 3}, "unused": {}})
    assert {name: one["rows"][0]["sha256"] for name, one in pretrained.read(path)["networks"].items()} == {
        "squeezenet": "c", "efficientnet_lite0": "b",
    }  # fmt: skip
    assert pretrained.read(path)["evaluations"] == {"b": {"top1": 1.0}, "c": {"top1": 1.0}}


@pytest.mark.parametrize("name", NETWORKS)
def test_each_set_of_weights_is_evaluated_once(name, data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pretrained, "points", lambda name: [Point("as trained"), Point("pruned", sparsity=0.0)])
    monkeypatch.setattr(pretrained, "known", lambda path: json.loads(path.read_text())["evaluations"] if path.exists() else {})  # fmt: skip
    measure(name, data_root, tmp_path, evaluates=True, most=10)
    results = json.loads((tmp_path / "results.json").read_text())
    (sha,) = {row["sha256"] for row in results["networks"][name]["rows"]}
    assert sha == RESULTS["networks"][name]["rows"][0]["sha256"]
    assert results["evaluations"][sha]["n"] == 10
    assert results["evaluations"][sha]["top1"] >= UNCHANGED[name]
    monkeypatch.setattr(Evaluation, "__call__", lambda self, weights: pytest.fail("evaluated again"))
    measure(name, data_root, tmp_path, evaluates=True, most=10)
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_without_data_it_says_what_is_missing(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("DSD_DATA", raising=False)
    assert main(["squeezenet"]) == 2
    assert "DSD_DATA names no folder" in capsys.readouterr().err
    monkeypatch.setenv("DSD_DATA", str(tmp_path))
    assert main(["squeezenet"]) == 2
    assert "there is no file" in capsys.readouterr().err
