"""`python -m experiments.big_networks`: its report is what its results say, and the pipeline adds up on small networks."""

import json
from itertools import chain

import pytest
import torch

from dsd.inference.layers import FORMS
from experiments import big_networks
from experiments.big_networks import FOLDER, TITLES, config, layers, main, through
from experiments.big_networks_report import TOLERANCE, groups, ledger, pruned, report, spent, streams, write

RESULTS = json.loads((FOLDER / "results.json").read_text())


def test_the_report_comes_from_its_results(tmp_path):
    write(RESULTS, tmp_path)
    assert (tmp_path / "report.md").read_text() == (FOLDER / "report.md").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in FOLDER.iterdir()} - {"results.json"}
    assert "</svg>" in (tmp_path / "sizes.svg").read_text()
    assert "/root" not in json.dumps(RESULTS)


@pytest.mark.parametrize("name", TITLES)
def test_the_readme_has_the_measured_ratio(name):
    readme = (FOLDER.parents[1] / "README.md").read_text()
    assert f"{TITLES[name]} {RESULTS[name]['fp32_bytes'] / RESULTS[name]['bytes']:.1f}x" in readme


@pytest.mark.parametrize("name", TITLES)
def test_every_committed_byte_is_in_one_line(name):
    network = RESULTS[name]
    assert spent(network["tensors"]) + sum(network["around"].values()) == network["bytes"]
    assert list(chain(*groups(network).values())) == network["tensors"]
    assert all(found["error"] <= TOLERANCE for found in network["runs"]["forms"].values())
    assert sum(row["n"] for row in network["tensors"]) * 4 == network["fp32_bytes"]


def test_the_committed_networks_keep_what_the_config_says():
    rows = pruned(RESULTS["alexnet"])
    wanted = layers("alexnet")
    assert [tuple(row["shape"]) for row in rows] == [shape for shape, _, _ in wanted]
    assert [row["kept"] for row in rows] == [
        round(kept * row["n"]) for row, (_, kept, _) in zip(rows, wanted, strict=True)
    ]
    assert all(row["distinct"] <= 2**bits for row, (_, _, bits) in zip(rows, wanted, strict=True))


@pytest.fixture(scope="module")
def small() -> dict:
    return through(config("resnet50", "model=resnet20", "data.size=32"))


def test_a_small_network_goes_all_the_way_and_adds_up(small):
    rows = {row["name"]: row for row in small["tensors"]}
    assert spent(small["tensors"]) + sum(small["around"].values()) == small["bytes"]
    assert small["fp32_bytes"] == 4 * sum(row["n"] for row in small["tensors"])
    assert len(small["pruned"]) == 20
    assert all(rows[name]["kept"] == round(0.3 * rows[name]["n"]) for name in small["pruned"])
    assert all(rows[name]["distinct"] <= 16 for name in small["pruned"])
    forms = small["runs"]["forms"]
    assert list(forms) == list(FORMS)
    assert forms["dense"]["error"] == 0
    assert forms["dense"]["resident"] >= small["fp32_bytes"]
    assert forms["codebook"]["resident"] < 0.5 * forms["dense"]["resident"]
    assert max(found["error"] for found in forms.values()) <= TOLERANCE


def test_its_report_says_where_every_byte_is(small):
    text = report({"small": small | {"title": "Small"}})
    assert f"**{small['bytes']:,}**" in ledger(small | {"title": "Small"})
    assert "| Small | dense | 20 dense |" in text
    bits = streams(pruned(small))
    assert bits["values"] < bits["fixed"] == 4
    assert bits["positions"] + bits["values"] == pytest.approx(bits["positions bound"] + bits["values bound"], rel=0.1)


def test_layers_have_a_line_each_where_they_are_few_and_the_paper_beside():
    network = through(config("lenet5_mnist"))
    lines = ledger(network).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:-2]] == ["| conv1", "| conv2", "| fc1", "| fc2"]
    assert lines[2].endswith("| 67.45 |")
    whole = [int(line.split(" | ")[10].replace(",", "").strip("*")) for line in lines[2:]]
    assert sum(whole[:-1]) == whole[-1] == network["bytes"]


def test_an_archive_that_comes_back_changed_is_an_error(monkeypatch):
    real = big_networks.decompress
    monkeypatch.setattr(big_networks, "decompress", lambda data: real(data) | {"fc2.bias": torch.full((10,), 7.0)})
    with pytest.raises(ValueError, match=r"changed: fc2.bias: 10 of 10 values differ"):
        through(config("lenet5_mnist"))


def test_a_network_that_is_not_there_is_named(capsys):
    assert main(["alexnett"]) == 2
    assert "there is no network alexnett here: they are alexnet, vgg16" in capsys.readouterr().err
