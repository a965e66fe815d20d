"""The bench measures what it says, on small things here; its tables hold the published columns."""

import json
import math
import sys
import time
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch
from torch import nn

from dsd.command import main
from dsd.inference import bench, networks, session
from dsd.inference.bench import picked
from dsd.inference.energy import counters, gpus, measured, modelled, per_call, reading, sentence
from dsd.inference.networks import NETWORKS, pruned_
from dsd.inference.peers import ARMS, products
from dsd.inference.published import DENSITY, LAYERS, MICROSECONDS, speedup
from dsd.inference.report import bound, sentences, tables
from dsd.inference.session import merged, scalars
from dsd.models import DeepSpeech1


def test_published_times_give_the_papers_speedups():
    six = list(LAYERS)[:6]

    def mean(machine, batch):
        return torch.tensor([speedup(machine, batch, name) for name in six]).log().mean().exp().item()

    found = {key: round(mean(*key), 2) for key in MICROSECONDS}
    assert found == {
        ("Core i7-5930K", 1): 3.33, ("Titan X", 1): 3.54, ("Tegra K1", 1): 4.75,
        ("Core i7-5930K", 64): 0.27, ("Titan X", 64): 0.27, ("Tegra K1", 64): 0.78,
    }  # fmt: skip  # PROTOCOLS 5, calc


def test_energy_by_hand():
    # one weight from DRAM, one product: 640 + 0.9 + 3.7, and its input, one input and one output of 5 pJ
    assert modelled(weight_bytes=4, products=1, inputs=1, outputs=1) == pytest.approx(659.6e-12)


def test_counters_of_energy_wrap_around(tmp_path):
    assert not counters(tmp_path)
    assert "no energy be read" in sentence(tmp_path)
    for name, kind in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text("900\n")
        (tmp_path / name / "name").write_text(f"{kind}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("1000\n")
    before = reading(tmp_path)
    assert len(before) == 1
    calls = []
    assert per_call(lambda: calls.append(1), seconds=0, root=tmp_path) == {"joules": 0}  # a counter that stands still
    assert calls == [1]
    assert per_call(lambda: None, root=tmp_path / "none") == {}
    assert "measured through RAPL" in sentence(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("400\n")
    assert measured(before, reading(tmp_path)) == pytest.approx(500e-6)


class Nvml(ModuleType):
    """Two GPUs, of which the second has no counter; each reading of the first finds it 5 mJ on."""

    class NVMLError(Exception):
        pass

    def __init__(self, gpus):
        super().__init__("pynvml")
        self.__spec__, self.gpus, self.spent = ModuleSpec("pynvml", None), gpus, 0

    def nvmlInit(self):
        if not self.gpus:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self):
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, number):
        return number

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        if handle:
            raise self.NVMLError("Not Supported")
        self.spent += 5
        return self.spent


@pytest.fixture
def nvml(monkeypatch):
    def install(gpus):
        monkeypatch.setitem(sys.modules, "pynvml", Nvml(gpus))

    return install


def test_energy_of_gpus_is_read_where_there_is_one(tmp_path, nvml, result):
    nvml(2)
    assert gpus() == [5]
    assert per_call(lambda: None, seconds=0, root=tmp_path) == {"gpu_joules": pytest.approx(5e-3)}
    assert sentence(tmp_path).startswith("1 GPU measured through NVML")
    measured = json.loads(json.dumps(result))
    measured["layers"][0]["arms"]["sparse"]["gpu_joules"] = 7e-6
    (energy,) = [table for table in tables(measured) if table.title.startswith("Energy")]
    assert dict(zip(energy.head, energy.rows[0], strict=True))["sparse GPU"] == "7"
    nvml(0)
    assert gpus() == []
    assert "no GPU that NVML can ask" in sentence(tmp_path)


def test_a_runtime_that_is_not_installed_is_said_to_be_missing(monkeypatch, result):
    assert not any("GraphBLAS, a sparse runtime" in line for line in sentences(result))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    arms, held = products(bench.drawn(6, 8, 0.5), None)
    assert "GraphBLAS" not in {*arms, *held}
    row = result["layers"][0]
    without = result | {"layers": [row | {"arms": {k: v for k, v in row["arms"].items() if k != "GraphBLAS"}}]}
    assert any("was not installed (pip install 'dsd[bench]')" in line for line in sentences(without))
    assert "GraphBLAS" not in tables(without)[0].head


def test_arms_multiply_alike_and_hold_what_they_say():
    weight = bench.drawn(60, 80, 0.1)
    kept = int(weight.count_nonzero())
    arms, held = products(weight, None)
    assert list(arms) == [name for name in ARMS if name != "compiled"]
    for batch in (1, 3):
        x = torch.randn(batch, 80)
        for name, product in arms.items():
            assert product(x).is_contiguous(), f"{name} leaves to others what the rest are timed with"
            torch.testing.assert_close(product(x), x @ weight.t(), atol=1e-5, rtol=1e-5)
    assert held["dense"] == 4 * 60 * 80
    assert held["CSR int64"] == held["GraphBLAS"] == 12 * kept + 8 * 61
    assert held["sparse"] == held["SciPy"] == 8 * kept + 4 * 61


def test_drawn_weights_have_their_density_and_few_values():
    weight = bench.drawn(300, 500, 0.1)
    assert float(weight.count_nonzero()) / weight.numel() == pytest.approx(0.1, abs=0.01)
    assert len(weight.unique()) == bench.VALUES + 1


def cell(density, batch, sparse, coded, kind="linear"):
    return {
        "kind": kind, "density": density, "batch": batch, "dense": 1.0, "sparse": sparse, "coded": coded, "looked": 2.0
    }  # fmt: skip


def test_the_table_of_a_map_stops_where_sparse_is_slower_once():
    a, b, c, *_ = bench.DENSITIES
    cells = [cell(a, 1, 0.5, 2), cell(c, 1, 0.5, 0.5), cell(b, 1, 1.1, 2.1), cell(a, 8, 0.1, 1), cell(b, 8, 0.1, 1)]
    assert bench.table_of(cells) == {"linear": {"sparse": {"1": a, "8": b}, "coded": {"1": a, "8": b}}}


def test_pruned_networks_have_their_density_and_few_values():
    torch.manual_seed(0)
    net = NETWORKS["LeNet-300-100"][0]()
    assert pruned_(net, DENSITY["LeNet-300-100"]) == pytest.approx(0.082, abs=0.001)
    assert float(net.fc2.weight.count_nonzero()) == round(0.09 * 30_000)
    assert len(net.fc1.weight.unique()) <= 33


def test_one_density_leaves_the_first_convolution_and_the_scores_of_speech():
    net = DeepSpeech1(bins=20, width=64, symbols=28, context=5, stride=2, dropout=0)
    pruned_(net, 0.5)
    kept = {
        name: float(m.weight.count_nonzero()) / m.weight.numel()
        for name, m in net.named_modules()
        if hasattr(m, "weight")
    }
    assert kept.pop("conv0") == kept.pop("ctc5") == 1
    assert set(kept.values()) == {0.5}


def timing(median):
    return {"median": median, "low": 0.9 * median, "high": 1.1 * median, "turns": 9, "quiet": 9}


@pytest.fixture(scope="module")
def result():
    """A small bench, really measured."""
    torch.set_num_threads(1)
    reads = 1e10
    rows = bench.layer("NeuralTalk LSTM", [1], rounds=2, compiled=None, reads=reads)
    nets = list(networks.network("LeNet-300-100", [2], rounds=2, budget=0.5, compiles=False, patience=math.inf))
    cells = [cell(d, b, d, d / 2, kind) for kind in ("linear", "convolution") for d in (0.1, 0.5) for b in (1, 8)]
    return {
        "bandwidth": reads, "layers": rows, "networks": nets, "crossover": {"size": 9, "cells": cells},
        "threads": 1, "machine": {"cpu": "a CPU", "cores_physical": 2}, "versions": {"torch": "2", "scipy": "1", "python": "3"},
    }  # fmt: skip


def test_a_row_says_time_bytes_and_share(result):
    (row,) = result["layers"]
    sparse = row["arms"]["sparse"]
    assert picked(row) == "sparse"
    assert sparse["bytes"] == 8 * row["kept"] + 4 * 2401 + 4 * (1201 + 2400)
    assert sparse["share"] == pytest.approx(sparse["bytes"] / sparse["median"] / 1e10)
    assert 1e7 < row["kept"] / sparse["median"] < 3 * sparse["cached"] < 1e12
    (net,) = result["networks"]
    assert net["resident"]["codebook"] < net["resident"]["sparse"] <= net["resident"]["dense"]
    assert sum(net["layers"]["sparse"].values()) == 3


def test_tables_have_the_published_columns(result):
    shown = {table.title.partition(":")[0]: table for table in tables(result)}
    layers = shown["Batch 1"]
    assert layers.rows[0][:2] == ["NeuralTalk LSTM", "10 %"]
    assert layers.rows[0][-3:] == ["1.81x", "2.81x", "3.04x"]  # EIE, Table IV: 470.5/260.0, 51.9/18.5, 956.9/315
    assert any("MODELLED" in table.title for table in shown.values())
    assert shown["Where sparsity pays, linear (9 x 9)"].rows[0] == ["10 %", "10.00 / 20.00", "10.00 / 20.00"]
    assert all(len(row) == len(table.head) for table in shown.values() for row in table.rows)
    assert all(table.markdown().count("\n|") == len(table.rows) + 2 for table in shown.values())
    assert any("joules are modelled" in line or "measured through RAPL" in line for line in sentences(result))


def test_what_bounds_a_product_follows_from_its_numbers():
    assert bound({"share": 0.7, "cached": 1e9}, 1e8, 1) == "its bytes"
    assert bound({"share": 0.6, "cached": 8e9}, 6e9, 1) == "look-ups: 8.0 G/s with its weights in the second cache"
    assert bound({"share": 0.6, "cached": 9e9}, 6e9, 1).startswith("not explained; look-ups: 9.0 G/s")
    assert bound({"share": 0.1}, 2e10, 64) == "products: each weight is used 64 times"


def test_fewer_than_three_turns_have_no_interval(result):
    few = json.loads(json.dumps(result))
    few["layers"][0]["arms"]["dense"] |= {"turns": 2, "quiet": 0}
    assert "±" not in tables(few)[0].rows[0][2]
    assert "±" in tables(result)[0].rows[0][2] or result["layers"][0]["arms"]["dense"]["turns"] < 3


def test_the_reader_is_told_of_a_machine_that_was_not_quiet(result):
    noisy = json.loads(json.dumps(result))
    noisy["layers"][0]["arms"]["dense"]["quiet"] = 0
    assert "was not quiet: 1 of" in " ".join(sentences(noisy))
    assert "~" in tables(noisy)[0].rows[0][2]
    assert "not quiet" not in " ".join(sentences(result))


def test_a_network_that_takes_long_is_left_out_and_said_to_be(result, tmp_path):
    how = {"rounds": 2, "budget": 0.1, "compiles": False, "patience": 1e-9}
    done, left = networks.network("LeNet-300-100", [1, 4], **how)
    assert set(left) == {"network", "batch", "seconds"}
    assert left["seconds"] >= 15.9 * sum(arm["median"] for arm in done["arms"].values())
    about = {key: result[key] for key in ("threads", "machine", "versions")}
    whole = merged({"networks": [done], "left_out": [left], **about}, tmp_path / "bench.json")
    assert any(
        line.startswith("Left out since it takes long, or the time was up: LeNet-300-100, batch 4")
        for line in sentences(whole)
    )
    whole = merged({"networks": [done | {"batch": 4}], **about}, tmp_path / "bench.json")
    assert whole["left_out"] == []


def test_no_network_is_begun_that_would_end_after_its_time(result):
    how = {"rounds": 2, "budget": 0.1, "compiles": False, "patience": math.inf}
    began = time.perf_counter()
    assert list(networks.network("VGG-16", [1, 8], **how, until=began)) == [
        {"network": "VGG-16", "batch": batch, "seconds": 0.0} for batch in (1, 8)
    ]
    assert time.perf_counter() - began < 0.1, "the network is not made for nothing"
    rows = networks.network("LeNet-300-100", [1, 2], **how, until=time.perf_counter() + 0.05)
    assert "arms" in next(rows), "nothing says that the first takes longer"
    (left,) = rows
    assert left["seconds"] > 0.05
    (line,) = (
        line
        for line in sentences(result | {"left_out": [left | {"seconds": 40.4}, left | {"batch": 8, "seconds": 0.0}]})
        if "Left out" in line
    )
    assert "LeNet-300-100, batch 2, about 40 s; LeNet-300-100, batch 8. `dsd" in line


def test_every_network_has_its_turn_before_the_next_batch(result, monkeypatch):
    (row,) = result["networks"]
    monkeypatch.setattr(
        networks, "network", lambda name, batches, **how: (row | {"network": name, "batch": batch} for batch in batches)
    )
    said = []
    how = {"path": None, "threads": None, "rounds": 2, "layers": [], "compiles": False, "budget": 1, "patience": 1}
    session.measure(["networks"], batches=[1, 8], nets=["AlexNet", "VGG-16"], minutes=1, say=said.append, **how)
    assert said == ["AlexNet, batch 1", "VGG-16, batch 1", "AlexNet, batch 8", "VGG-16, batch 8"]


def test_large_calls_are_not_timed_in_every_way(monkeypatch):
    monkeypatch.setattr(networks, "LONG", 0)
    (row,) = networks.network("LeNet-300-100", [1], rounds=2, budget=0.1, compiles=False, patience=math.inf)
    assert row["chosen"] == "table"
    assert sum(row["layers"]["sparse"].values()) == 3


@pytest.mark.parametrize("gains", [True, False])
def test_a_whole_network_is_compiled_where_that_is_faster(gains, monkeypatch):
    class Compiled(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, *x):
            return self.net(*x)

    monkeypatch.setattr(torch, "compile", Compiled)
    monkeypatch.setattr(networks, "_faster", lambda net, other, example: gains and type(net) is Compiled)
    (row,) = networks.network("LeNet-300-100", [1], rounds=2, budget=0.1, compiles=True, patience=math.inf)
    assert row["whole"] == ["sparse", "codebook"] * gains
    assert set(row["arms"]) == {"dense", "sparse", "codebook", "compiled"}
    (table,) = tables({"networks": [row]})
    assert table.rows[0][-1].endswith("; compiled") == gains


@pytest.mark.parametrize(("mode", "recorded"), [("offline", 1), ("disabled", 0)])
def test_the_command_takes_lists_and_records_in_wandb(mode, recorded, result, tmp_path, monkeypatch, capsys):
    asked, logged = {}, {}

    def measure(parts, **how):
        asked.update(how, parts=parts)
        return result

    def log(logger, metrics, step=None):
        logged.update({name: value for name, value in metrics.items() if isinstance(value, float)})
        logger.experiment.log(metrics)

    monkeypatch.setattr("dsd.inference.session.measure", measure)
    monkeypatch.setattr("dsd.results.tracking.UpdateLogger.log_metrics", log)
    monkeypatch.setenv("WANDB_MODE", mode)
    words = [
        "--networks",
        "LeNet-5, VGG-16",
        "--batch",
        "8,64",
        "1",
        "--track",
        "wandb",
        "-o",
        str(tmp_path / "b.json"),
    ]
    assert main(["bench", *words]) == 0
    assert (asked["parts"], asked["nets"], asked["batches"]) == (["networks"], ["LeNet-5", "VGG-16"], [8, 64, 1])
    assert asked["patience"] == asked["minutes"] == math.inf
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == recorded
    expected = 1e6 * result["layers"][0]["arms"]["sparse"]["median"]
    assert logged == ({} if not recorded else scalars(result))
    assert scalars(result)["NeuralTalk LSTM/batch 1/sparse"] == expected
    kept = {path.name.split("_")[0] for path in tmp_path.glob("wandb/offline-run-*/files/media/table/*.table.json")}
    assert ("Batch 1" in kept) == bool(recorded)
    assert "NeuralTalk LSTM" in capsys.readouterr().out


def test_parts_that_were_not_measured_stay_in_the_file(result, tmp_path):
    path, about = tmp_path / "bench.json", {key: result[key] for key in ("threads", "machine", "versions")}
    merged({"layers": result["layers"], **about}, path)
    merged({"networks": result["networks"], **about}, path)
    other = {**result["networks"][0], "batch": 1}
    whole = merged({"networks": [other], **about}, path)
    assert [row["batch"] for row in whole["networks"]] == [1, 2]
    assert json.loads(path.read_text())["layers"] == json.loads(json.dumps(result["layers"]))
    with pytest.raises(ValueError, match="another threads: 1, now 2"):
        merged({**about, "threads": 2}, path)


def test_every_row_compiles_anew(monkeypatch):
    """Without a reset, torch compiles the same class eight times and then runs it as it is, under the same name."""
    calls = []
    monkeypatch.setattr(networks.torch.compiler, "reset", lambda: calls.append("reset"))
    monkeypatch.setattr(networks.torch, "compile", lambda net: calls.append("compile") or net)
    assert (
        len(list(networks.network("LeNet-300-100", [1, 2], rounds=2, budget=0.1, compiles=True, patience=math.inf)))
        == 2
    )
    assert calls == ["reset", "compile", "compile", "compile"] * 2
