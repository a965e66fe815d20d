"""`python -m experiments NAME`: the committed reports are what the committed records say, and a report is made from runs."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dsd.inference.bench import table_of
from dsd.inference.crossover import KINDS, stored
from dsd.inference.timing import Timing
from dsd.results import records
from experiments import balance, bench, deep_compression, forms, pretrained, smoke, tradeoff_report, ttq
from experiments.__main__ import HERE, NAMES, main, no_other_start
from tests.warm import call

COMMITTED = [name for name in NAMES if (HERE / name / "records.jsonl").exists()]


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_report_comes_from_the_committed_records(name, tmp_path, capsys):
    shutil.copytree(HERE / name, tmp_path / name)
    (tmp_path / name / "report.md").unlink()
    main([name, "--runs", str(tmp_path / "none"), "--to", str(tmp_path / name)])
    assert (tmp_path / name / "report.md").read_text() == (HERE / name / "report.md").read_text()
    assert (tmp_path / name / "records.jsonl").read_bytes() == (HERE / name / "records.jsonl").read_bytes()


def test_something_is_committed():
    assert {"mnist", "smoke", "table7"} <= set(NAMES)
    assert COMMITTED


@pytest.mark.parametrize("name", COMMITTED)
def test_what_is_committed_names_no_folder_of_a_machine(name):
    text = "".join(path.read_text() for path in (HERE / name).iterdir())
    assert "/root" not in text
    assert "/home" not in text


def test_without_runs_it_says_what_to_run_and_trains_nothing(tmp_path, capsys):
    assert main(["smoke", "--runs", str(tmp_path / "none"), "--to", str(tmp_path / "report")]) == 1
    said, noted = capsys.readouterr()
    assert "there is no folder" in noted
    assert "missing, 12 runs" in said
    commands = re.findall("    python run.py .*", said)
    assert len(commands) == 3
    assert all(line.endswith(f" runs={tmp_path / 'none'}") for line in commands), (
        "what is missing goes where it is looked for"
    )
    assert "method=dsd seed=0,1,2,3" in said
    assert not (tmp_path / "none").exists()
    assert "not tested" in Path(tmp_path / "report" / "report.html").read_text()


def test_another_folder_gets_the_report_of_the_committed_records(tmp_path, capsys):
    assert main(["table7", "--runs", str(tmp_path / "none"), "--to", str(tmp_path / "t7")]) == 0
    assert "not tested" not in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "t7").iterdir()}
    assert {"report.html", "report.md", "literal-weights.svg"} <= names
    assert not {"records.jsonl", "weights.json", "samples.json", "diverged.json"} & names, "nothing new: read, not kept"


def test_a_folder_that_holds_another_tables_records_is_refused(tmp_path, capsys):
    shutil.copy(HERE / "prune_neuraltalk" / "records.jsonl", tmp_path)
    assert main(["smoke", "--runs", str(tmp_path / "none"), "--to", str(tmp_path)]) == 2
    assert "no study of smoke: give --to another folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["records.jsonl"], "nothing is written there"


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ({"TITLE": "t", "STUDIES": smoke.STUDIES[0]}, "STUDIES, a tuple of Study"),
        ({"STUDIES": smoke.STUDIES}, "needs TITLE"),
        ({"TITLE": "t", "STUDIES": smoke.STUDIES * 2}, "two studies have one name"),
    ],
)
def test_a_file_of_studies_that_is_wrong_is_told_before_anything_is_written(
    module, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("experiments.__main__.importlib.import_module", lambda _: SimpleNamespace(**module))
    assert main(["smoke", "--runs", str(tmp_path / "none"), "--to", str(tmp_path / "to")]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "to").exists()


def test_damaged_files_beside_the_records_are_named(tmp_path, capsys):
    shutil.copytree(HERE / "table6", tmp_path / "t")
    (tmp_path / "t" / "weights.json").write_text('{"speech2": ')
    assert main(["table6", "--runs", str(tmp_path / "none"), "--to", str(tmp_path / "t")]) == 2
    assert re.search(r"weights.json is not valid JSON .*; restore the file from git", capsys.readouterr().err)


def test_arms_are_not_kept_beside_a_baseline_that_was_trained_again():
    old = records.read(HERE / "table7" / "records.jsonl")
    base = next(one for one in old if (one["study"], one["arm"]) == ("literal", "baseline"))
    other = base | {"phases": [phase | {"sparsity": 0.1} for phase in base["phases"]]}
    no_other_start(old, records.merge(old, [base | {"seconds": 1.0}]))
    with pytest.raises(ValueError, match=r"run 21d177a10eaa \(baseline, seed 0\) was trained again .* with --only"):
        no_other_start(old, records.merge(old, [other]))
    every = [
        one | {"run_id": f"new {one['run_id']}"}
        for one in old
        if one["study"] == "literal" and one["arm"] != "baseline"
    ]
    no_other_start(old, records.merge(old, [other, *every]))
    beside = [one | {"study": "beside"} for one in old if one["study"] == "literal"]
    no_other_start(
        [*old, *beside], records.merge([*old, *beside], [other, *every])
    )  # with a record of the baseline as it was
    alone = [one for one in beside if one["arm"] != "baseline"]
    with pytest.raises(ValueError, match="was trained again"):
        no_other_start([*old, *alone], records.merge([*old, *alone], [other, *every]))


def test_new_runs_go_into_the_other_folder_with_all_that_is_committed(tmp_path, monkeypatch, capsys):
    committed = (HERE / "table7" / "records.jsonl").read_bytes()
    old = records.read(HERE / "table7" / "records.jsonl")
    new = [old[0] | {"run_id": "new"}]
    monkeypatch.setattr("experiments.__main__.as_declared", lambda *_: None)
    monkeypatch.setattr(
        "experiments.__main__.records.collect", lambda study, _: new if study.name == old[0]["study"] else []
    )
    monkeypatch.setattr("experiments.__main__.Store.results", lambda _: [{"run_id": "new", "config": {}}])
    folder = tmp_path / "t7"
    assert main(["table7", "--runs", str(tmp_path / "none"), "--to", str(folder)]) == 0
    assert (HERE / "table7" / "records.jsonl").read_bytes() == committed
    kept = records.read(folder / "records.jsonl")
    assert len(kept) == len(old)
    assert "new" in {r["run_id"] for r in kept}
    assert json.loads((folder / "weights.json").read_text()) == json.loads(
        (HERE / "table7" / "weights.json").read_text()
    )


def test_a_damaged_record_is_an_error_in_words(tmp_path, capsys):
    (tmp_path / "records.jsonl").write_text("{")
    assert main(["smoke", "--runs", str(tmp_path / "none"), "--to", str(tmp_path)]) == 2
    assert "records.jsonl, line 1 is no record" in capsys.readouterr().err


def test_runs_are_taken_into_the_studies_that_are_named(tmp_path, monkeypatch, capsys):
    asked: list[str] = []
    monkeypatch.setattr("experiments.__main__.records.collect", lambda study, results: asked.append(study.name) or [])
    where = ["mnist", "--runs", str(tmp_path / "none"), "--to", str(tmp_path)]
    assert main([*where, "--only", "lenet300_75", "lenet300_25"]) == 0
    assert asked == ["lenet300_25", "lenet300_75"]
    assert main([*where, "--only", "lenet3"]) == 2
    assert (
        "--only names lenet3; there are lenet300, lenet300_restart, lenet300_25, lenet300_75, lenet5"
        in capsys.readouterr().err
    )


def test_the_bench_report_comes_from_its_results():
    result = json.loads((HERE / "bench" / "results.json").read_text())
    assert bench.report(result) == (HERE / "bench" / "report.md").read_text()
    assert bench.short(result) in (HERE.parent / "README.md").read_text()
    assert "/root" not in json.dumps(result)


def test_the_runtime_decides_by_the_table_of_the_record():
    result = json.loads((HERE / "bench" / "results.json").read_text())
    assert table_of(result["crossover"]["cells"]) == {kind: stored()[kind] for kind in KINDS}


def test_the_balance_report_comes_from_its_results():
    results, timed = (json.loads((HERE / "balance" / name).read_text()) for name in ("results.json", "timed.json"))
    assert balance.report(results, timed["rows"]) == (HERE / "balance" / "report.md").read_text()


def test_what_balance_measures_again_drives_nothing_out(tmp_path, monkeypatch):
    for name in ("one", "two"):
        torch.save({"fc.weight": torch.randn(64, 64)}, tmp_path / f"{name}.pt")
    (tmp_path / "results.json").write_text(json.dumps({"old, trained": balance.measured(torch.randn(64, 64))}))
    monkeypatch.setattr(balance, "HERE", tmp_path)
    monkeypatch.setattr(balance, "drawn", lambda rows, columns, spread: torch.randn(64, 64))
    balance.main([f"{tmp_path / name}.pt:fc.weight" for name in ("one", "two")])
    found = json.loads((tmp_path / "results.json").read_text())
    assert len(found) == 3 + len(balance.SPREADS) + len(balance.TIMED)
    assert {"old, trained", "one: fc.weight, trained", "two: fc.weight, trained"} < found.keys()
    assert "two: fc.weight, trained" in (tmp_path / "report.md").read_text()


def test_the_slowest_worker_is_timed(monkeypatch):
    turns = iter((3.0, 5.0, 4.0))
    monkeypatch.setattr(
        balance, "interleaved", lambda arms, rounds: (t := next(turns)) and {n: Timing(t, 1, 9, 5, 5) for n in arms}
    )
    assert balance.timed(torch.randn(9, 8), 3) == {"dense": 5.0, "plain": 5.0, "balanced": 5.0}


@pytest.mark.parametrize(
    ("command", "word", "told"),
    [
        (balance, "fc", "fc names no parameter: give FILE:PARAMETER"),
        (balance, "none.pt:fc.weight", "none.pt"),
        (balance, "there.pt:fc.weight", "there.pt:fc.weight has 2 rows, which cannot be dealt out to 64"),
        (balance, "there.pt:fc.weigth", "there.pt has no matrix 'fc.weigth'; it has fc.weight"),
        (bench, "none.json", "none.json"),
        (pretrained, "foo", "there is no network foo; there are "),
    ],
    ids=["no parameter", "no file", "few rows", "no matrix", "no results", "no network"],
)
def test_a_misspelt_word_is_named(command, word, told, tmp_path, monkeypatch, capsys):
    torch.save({"fc.weight": torch.ones(2, 2)}, tmp_path / "there.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        command.main([word])
    assert told in f"{ended.value} {capsys.readouterr().err}"
    assert ended.value.code not in (0, None)


def test_the_report_of_the_tradeoff_and_its_figures_come_from_its_records(tmp_path):
    folder = HERE / "tradeoff"
    tradeoff_report.write(json.loads((folder / "records.json").read_text()), tmp_path)
    assert (tmp_path / "report.md").read_text() == (folder / "report.md").read_text()
    figures = {path.name for path in folder.glob("*.svg")}
    assert figures == {path.name for path in tmp_path.glob("*.svg")}
    assert all("</svg>" in (tmp_path / name).read_text() for name in figures)  # their bytes are the drawing library's


def test_the_report_of_deep_compression_comes_from_its_records():
    folder = HERE / "deep_compression"
    assert (
        deep_compression.report(json.loads((folder / "records.json").read_text())) == (folder / "report.md").read_text()
    )


def test_new_runs_of_deep_compression_do_not_drive_out_the_old():
    old = [{"name": "a", "seed": 0, "run": "old"}, {"name": "a", "seed": 1, "run": "old"}]
    new = [{"name": "a", "seed": 1, "run": "new"}, {"name": "b", "seed": 0, "run": "new"}]
    assert [r["run"] for r in deep_compression.merged(old, new)] == ["old", "new", "new"]


def test_the_report_of_the_three_forms_comes_from_its_results():
    rows = json.loads((HERE / "forms" / "results.json").read_text())
    assert forms.report(rows) == (HERE / "forms" / "report.md").read_text()
    assert "not the same" not in forms.report(rows)
    other = json.loads(json.dumps(rows[-1:]))
    other[0]["forms"]["sparse"]["metrics"]["test/error1"] += 0.01
    assert f"{rows[-1]['name']} seed {rows[-1]['seed']}" in forms.report(other)


def test_the_report_of_ternary_weights_comes_from_its_result():
    assert ttq.report() == (HERE / "ttq" / "report.md").read_text()
    assert "/" not in str(json.loads((HERE / "ttq" / "result.json").read_text())["config"]), "no folder of a machine"


def test_the_three_forms_are_tested_from_a_run(tmp_path, monkeypatch):
    code, said = call(
        "experiment=dc_lenet300_mnist", "track=none", "progress=false", f"runs={tmp_path}", "profiles.quick.dense=0.2",
        "profiles.quick.sparse=0.2", "profiles.quick.redense=0.2",
    )  # fmt: skip
    assert code == 0, said
    monkeypatch.setattr(forms, "FOLDER", tmp_path / "report")
    assert forms.main([str(tmp_path)]) == 0
    (row,) = json.loads((tmp_path / "report" / "results.json").read_text())
    assert forms.same(row)
    assert row["forms"]["dense"]["metrics"]["test/error1"] == row["recorded"]["test/error1"]
    assert row["forms"]["codebook"]["resident"] < row["forms"]["dense"]["resident"] / 3
    assert forms.main([]) == 0  # writes the report again
    assert forms.main([str(tmp_path / "none")]) == 2
    (tmp_path / "report" / "results.json").unlink()
    assert forms.main([]) == 2
