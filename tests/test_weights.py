import argparse
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file, save_model
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

from dsd.weights import initialise_, load_weights, resolve, save_weights


def network(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, classes))


def tied() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


# ---------------------------------------------------------------- load_weights

STATE = network().state_dict()
WAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "plain": lambda state: state,
    "Lightning": lambda state: {
        "pytorch-lightning_version": "2.6.0",
        "state_dict": {**{f"net.{n}": v for n, v in state.items()}, "loss.weight": torch.ones(2)},
        "optimizer_states": [],
    },
    "state_dict of net": lambda state: {"epoch": 3, "state_dict": {f"net.{n}": v for n, v in state.items()}},
    "fb and timm": lambda state: {"epoch": 3, "arch": "resnet", "state_dict": state},
    "torchvision references": lambda state: {"epoch": 3, "model": state, "optimizer": {}},
    "tutorial": lambda state: {"model_state_dict": state, "loss": 0.5},
    "DataParallel": lambda state: {f"module.{n}": v for n, v in state.items()},
    "compiled": lambda state: {f"_orig_mod.{n}": v for n, v in state.items()},
    "compiled DataParallel": lambda state: {"model": {f"module._orig_mod.{n}": v for n, v in state.items()}},
    "Lightning, compiled": lambda state: {"state_dict": {f"net._orig_mod.{n}": v for n, v in state.items()}},
}


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".pth.tar"])
@pytest.mark.parametrize("way", WAYS)
def test_checkpoints_of_every_kind_hold_the_same_weights(tmp_path: Path, way: str, suffix: str) -> None:
    torch.save(WAYS[way](STATE), tmp_path / f"weights{suffix}")
    assert same(load_weights(tmp_path / f"weights{suffix}"), STATE)


def test_safetensors_with_a_prefix_are_read(tmp_path: Path) -> None:
    save_file({f"module.{name}": value for name, value in STATE.items()}, tmp_path / "a.safetensors")
    assert same(load_weights(tmp_path / "a.safetensors"), STATE)


def test_averaged_models_are_read(tmp_path: Path) -> None:
    model = network()
    torch.save(AveragedModel(model).state_dict(), tmp_path / "swa.pt")
    assert same(load_weights(tmp_path / "swa.pt"), model.state_dict())


def test_a_submodule_called_module_or_net_is_no_prefix(tmp_path: Path) -> None:
    state = {"module.weight": torch.ones(2), "net.weight": torch.ones(2), "fc.weight": torch.ones(2)}
    torch.save(state, tmp_path / "a.pt")
    assert same(load_weights(tmp_path / "a.pt"), state)
    torch.save({"state_dict": state}, tmp_path / "a.pt")
    assert same(load_weights(tmp_path / "a.pt"), state)


def test_pruned_weights_are_multiplied_by_their_masks(tmp_path: Path) -> None:
    model = network()
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    expected = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight_orig.add_(1)  # stale values under the mask
    torch.save(model.state_dict(), tmp_path / "pruned.pt")
    found = load_weights(tmp_path / "pruned.pt")
    assert found.keys() == network().state_dict().keys()
    assert torch.equal(found["0.weight"] == 0, expected == 0)
    assert int((found["0.weight"] == 0).sum()) == 18


def test_masks_of_another_shape_are_an_error(tmp_path: Path) -> None:
    torch.save({"weight_orig": torch.ones(2), "weight_mask": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="do not make a weight"):
        load_weights(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no tensors"),
        ({"state_dict": {}}, "holds no tensors"),
        ([torch.ones(2)], "holds a list"),
        (torch.ones(2), "holds a Tensor"),
        ({"epoch": 3, "net": {"weight": torch.ones(2)}}, r"not tensors: epoch \(int\), net \(dict\)"),
        ({"model": {"weight": torch.ones(2), "args": "x"}}, r"not tensors: args \(str\)"),
        ({"weight": torch.ones(2), "args": argparse.Namespace(x=1)}, "Python objects besides tensors"),
    ],
)
def test_files_without_weights_say_what_they_hold(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=message) as error:
        load_weights(tmp_path / "a.pt")
    assert str(tmp_path / "a.pt") in str(error.value)


def test_missing_files_and_other_kinds_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        load_weights(tmp_path / "a.pt")
    (tmp_path / "a.h5").write_bytes(b"1")
    with pytest.raises(ValueError, match=r"not from '\.h5'"):
        load_weights(tmp_path / "a.h5")


def as_bytes(folder: Path, name: str, legacy: bool = False) -> bytes:
    save_file(STATE, folder / "whole.safetensors")
    torch.save(STATE, folder / "whole.pt", _use_new_zipfile_serialization=not legacy)
    return (folder / name).read_bytes()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 0.999), legacy=st.booleans())
def test_files_cut_short_are_errors_that_name_file_and_remedy(
    tmp_path: Path, suffix: str, part: float, legacy: bool
) -> None:
    whole = as_bytes(tmp_path, f"whole{suffix}", legacy)
    half = tmp_path / f"half{suffix}"
    half.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match=r"half\.\w+ .*damaged, cut short.*; copy or download it again"):
        load_weights(half)


# ---------------------------------------------------------------- initialise_


def test_initialising_copies_every_value() -> None:
    model, other = network(), network()
    other[1].running_mean.fill_(0.7)
    assert initialise_(model, other.state_dict()) == []
    assert same(model.state_dict(), other.state_dict())
    assert model[0].weight.requires_grad


def test_half_precision_becomes_the_networks_own() -> None:
    model, other = network(), network().half()
    initialise_(model, other.state_dict())
    assert model[0].weight.dtype == torch.float32
    assert torch.equal(model[0].weight, other[0].weight.float())


def test_a_mismatch_lists_names_and_shapes_and_copies_nothing() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights: dict[str, Tensor] = {**network(classes=5).state_dict(), "head.weight": torch.ones(1)}
    del weights["0.bias"]
    with pytest.raises(ValueError, match="do not fit") as error:
        initialise_(model, weights)
    message = str(error.value)
    assert "1 missing in the file: 0.bias" in message
    assert "1 unknown to the network: head.weight" in message
    assert "3.weight: (5, 4) float32 in the file, (3, 4) float32 in the network" in message
    assert "3.bias: (5,) float32 in the file, (3,) float32 in the network" in message
    assert same(model.state_dict(), before)


def test_long_lists_are_cut() -> None:
    with pytest.raises(ValueError, match=r"9 unknown to the network: 0, 1, 2, 3, 4, \.\.\. and 4 more"):
        initialise_(network(), {**STATE, **{str(n): torch.ones(1) for n in range(9)}})


def test_integers_for_floats_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"0\.weight: \(4, 1, 3, 3\) int8 in the file"):
        initialise_(network(), {**STATE, "0.weight": torch.ones(4, 1, 3, 3, dtype=torch.int8)})


def test_skipped_names_keep_their_values() -> None:
    model = network()
    classifier = model[3].weight.detach().clone()
    assert initialise_(model, network(classes=5).state_dict(), skip=["3.*"]) == ["3.weight", "3.bias"]
    assert torch.equal(model[3].weight, classifier)


def test_skipping_may_concern_names_of_the_file_only() -> None:
    assert initialise_(network(), {**STATE, "aux.weight": torch.ones(1)}, skip=["aux.*"]) == []


def test_a_skip_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"skip pattern 'fc\.\*' matches no name"):
        initialise_(network(), STATE, skip=["3.*", "fc.*"])


def test_not_strict_allows_names_but_neither_shapes_nor_nothing() -> None:
    weights = {"0.weight": STATE["0.weight"], "head": torch.ones(1)}
    model = network()
    kept = initialise_(model, weights, strict=False)
    assert set(kept) == set(STATE) - {"0.weight"}
    assert torch.equal(model[0].weight, STATE["0.weight"])
    with pytest.raises(ValueError, match="wrong shape"):
        initialise_(model, network(classes=5).state_dict(), strict=False)
    with pytest.raises(ValueError, match=r"0 of the network's 9 names"):
        initialise_(model, {"head": torch.ones(1)}, strict=False)
    with pytest.raises(ValueError, match=r"0 of the network's 9 names"):
        initialise_(model, STATE, skip=["*"])


def test_old_files_without_update_counts_are_accepted() -> None:
    weights = {name: value for name, value in STATE.items() if not name.endswith("num_batches_tracked")}
    assert initialise_(network(), weights) == ["1.num_batches_tracked"]


def test_the_meta_device_is_an_error() -> None:
    with torch.device("meta"):
        model = network()
    with pytest.raises(ValueError, match="meta device"):
        initialise_(model, STATE)


# ---------------------------------------------------------------- save_weights


def test_saved_weights_come_back(tmp_path: Path) -> None:
    model = network().to(memory_format=torch.channels_last)
    model[3].weight.data = torch.rand(4, 3).t()
    save_weights(model, tmp_path / "final.safetensors")
    assert same(load_weights(tmp_path / "final.safetensors"), model.state_dict())
    assert [path.name for path in tmp_path.iterdir()] == ["final.safetensors"]


def test_tied_weights_come_back_tied(tmp_path: Path) -> None:
    model, other = tied(), tied()
    save_weights(model, tmp_path / "a.safetensors")
    initialise_(other, load_weights(tmp_path / "a.safetensors"))
    assert same(other.state_dict(), model.state_dict())
    assert other[0].weight is other[1].weight


def test_files_that_hold_a_tied_weight_once_are_enough(tmp_path: Path) -> None:
    model, other = tied(), tied()
    save_model(model, str(tmp_path / "a.safetensors"))
    weights = load_weights(tmp_path / "a.safetensors")
    assert len(weights) == 3
    assert initialise_(other, weights) == []
    assert same(other.state_dict(), model.state_dict())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(network(), path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"could not write .*a\.safetensors: No space left on device; .*same command"):
        save_weights(network(), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def test_other_suffixes_and_empty_networks_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="safetensors"):
        save_weights(network(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match="no weights"):
        save_weights(nn.ReLU(), tmp_path / "a.safetensors")


# ---------------------------------------------------------------- resolve


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for run in ("3fa9c1-dense", "3fb000-dsd", "77aa00-dsd"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        save_weights(network(), tmp_path / "runs" / run / "final.safetensors")
    (tmp_path / "runs" / "9bad00").mkdir()
    return tmp_path / "runs"


@pytest.mark.parametrize("run", ["77", "77aa00", "77aa00-dsd"])
def test_a_run_is_found_by_the_beginning_of_its_id(runs: Path, run: str) -> None:
    assert resolve(run, runs) == runs / "77aa00-dsd" / "final.safetensors"


def test_a_whole_id_wins_over_longer_ones(runs: Path) -> None:
    (runs / "77aa00-dsd-2").mkdir()
    assert resolve("77aa00-dsd", runs).parent.name == "77aa00-dsd"


def test_files_and_folders_are_found_by_their_path(runs: Path) -> None:
    final = runs / "77aa00-dsd" / "final.safetensors"
    assert resolve(str(final), runs / "none") == final
    assert resolve(str(final.parent), runs / "none") == final


@pytest.mark.parametrize(
    ("init_from", "message"),
    [
        ("", "is empty"),
        ("3f", "beginning of 2 runs in .*: 3fa9c1-dense, 3fb000-dsd"),
        ("3fa9c2", "no file, and no run in .*; nearest of 4 runs: 3fa9c1-dense"),
        ("best.ckpt", "no file, and no run"),
        ("9bad", "9bad00 has no final.safetensors"),
    ],
)
def test_what_cannot_be_found_says_so(runs: Path, init_from: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(init_from, runs)


def test_without_runs_there_is_no_candidate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no run yet"):
        resolve("3fa9c1", tmp_path / "runs")
