"""The `dsd` command on everybody's checkpoints: bit for bit there and back, or an error that says what to do."""

import copy
import json
import os
import re
import subprocess
import sys
import zlib

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils import prune

from dsd import inspection
from dsd.command import main
from dsd.compression import compress, decompress, read_meta
from dsd.inspection import inspect, lines
from dsd.models import LeNet300
from dsd.oneshot import differences, pruned, shared

LENET300 = {"num_classes": 10, "channels": 1, "side": 28, "hidden": [30, 20]}


@pytest.fixture
def state():
    """A small LeNet whose weights are shared by 16 values and mostly 0."""
    random = torch.Generator().manual_seed(0)
    made = LeNet300(**LENET300).state_dict()
    for name, value in made.items():
        if value.ndim > 1:
            book = torch.randn(16, generator=random)
            kept = torch.rand(value.shape, generator=random) < 0.1
            made[name] = torch.where(kept, book[torch.randint(0, 16, value.shape, generator=random)], 0)
    return made


@pytest.fixture
def checkpoint(state, tmp_path):
    path = tmp_path / "net.safetensors"
    save_file(state, path)
    return path


@pytest.fixture
def archive(checkpoint, capsys):
    path = checkpoint.with_suffix(".dsd")
    assert main(["compress", str(checkpoint), "-o", str(path)]) == 0
    capsys.readouterr()
    return path


def plain(state, path):
    torch.save(state, path)


def lightning(state, path):
    inside = {f"net.{name}": value for name, value in state.items()}
    torch.save({"state_dict": inside, "pytorch-lightning_version": "2.6.0", "epoch": 3}, path)


def parallel(state, path):
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)


def masked(state, path):
    """As torch.nn.utils.prune leaves it: weight_orig still has values under the mask."""
    net = LeNet300(**LENET300)
    net.load_state_dict(state)
    for layer in (net.fc1, net.fc2, net.fc3):
        prune.custom_from_mask(layer, "weight", layer.weight != 0)
        with torch.no_grad():
            layer.weight_orig[layer.weight_mask == 0] = 7
    torch.save(net.state_dict(), path)


@pytest.mark.parametrize(
    ("save", "name"),
    [(save_file, "a.safetensors"), (plain, "a.pt"), (plain, "a.pth"), (lightning, "a.ckpt"), (parallel, "a.pt"), (masked, "a.pt")],
)  # fmt: skip
@pytest.mark.parametrize("out", ["back.safetensors", "back.pt"])
def test_there_and_back_bit_for_bit(save, name, out, state, tmp_path, capsys):
    save(copy.deepcopy(state), tmp_path / name)
    assert main(["compress", str(tmp_path / name), "-o", str(tmp_path / "a.dsd")]) == 0
    assert "every weight is kept bit for bit" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "a.dsd"), "--against", str(tmp_path / name)]) == 0
    assert main(["decompress", str(tmp_path / "a.dsd"), "-o", str(tmp_path / out)]) == 0
    read = load_file if out.endswith("s") else torch.load
    assert not differences(read(tmp_path / out), state)


def test_the_ledger_and_the_ratio_are_printed(checkpoint, tmp_path, capsys):
    assert main(["compress", str(checkpoint), "-o", str(tmp_path / "a.dsd")]) == 0
    said = capsys.readouterr().out
    size = (tmp_path / "a.dsd").stat().st_size
    fp32 = 4 * sum(value.numel() for value in load_file(checkpoint).values())
    assert f"a.dsd: {size:,} bytes, {fp32 / size:.2f}x smaller than {fp32:,} bytes" in said
    assert "fc1.weight" in said
    assert f"file, {fp32 / size:.1f}x" in said
    assert "dense" not in said


def test_dense_weights_are_told_with_the_remedy(tmp_path, capsys):
    plain(LeNet300(**LENET300).state_dict(), tmp_path / "a.pt")
    assert main(["compress", str(tmp_path / "a.pt"), "-o", str(tmp_path / "a.dsd")]) == 0
    assert "The weights are dense" in capsys.readouterr().out
    assert not differences(decompress(tmp_path / "a.dsd"), LeNet300(**LENET300).state_dict() | load(tmp_path / "a.pt"))


def load(path):
    return torch.load(path, weights_only=True)


def test_pruning_and_sharing_first(tmp_path, capsys):
    dense = LeNet300(**LENET300).state_dict() | {"conv.weight": torch.randn(8, 4, 5, 5)}
    plain(dense, tmp_path / "a.pt")
    words = ["--sparsity", "0.75", "--bits", "3", "--conv-bits", "5", "--coder", "huffman", "--index-bits", "4"]
    assert main(["compress", str(tmp_path / "a.pt"), "-o", str(tmp_path / "a.dsd"), *words]) == 0
    found = decompress(tmp_path / "a.dsd")
    kept = {name: int(value.count_nonzero()) / value.numel() for name, value in found.items() if value.ndim > 1}
    values = {name: len(value[value != 0].unique()) for name, value in found.items() if value.ndim > 1}
    assert kept == {"fc1.weight": 0.25, "fc2.weight": 0.25, "fc3.weight": 0.25, "conv.weight": 0.25}
    assert values["conv.weight"] in range(9, 33)
    assert max(values[name] for name in ("fc1.weight", "fc2.weight", "fc3.weight")) <= 8
    assert torch.equal(found["fc1.bias"], dense["fc1.bias"])
    assert "bit for bit" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--sparsity", "1.5"], "sparsity is the removed fraction, 0 to 1, found 1.5"),
        (["--conv-bits", "4"], "no weight of the kind that bits were given for"),
        (["--meta", "note"], "--meta takes KEY=VALUE, found 'note'"),
        (["--bits", "0"], "bits"),
    ],
)
def test_what_cannot_be_asked_for(words, reason, checkpoint, tmp_path, capsys):
    assert main(["compress", str(checkpoint), "-o", str(tmp_path / "a.dsd"), *words]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "a.dsd").exists()


@pytest.mark.parametrize(("bad", "kind"), [(float("nan"), "fc1.bias"), (float("inf"), "fc2.weight")])
def test_values_that_are_not_finite_are_named(bad, kind, state, tmp_path, capsys):
    state[kind].view(-1)[3] = bad
    plain(state, tmp_path / "a.pt")
    assert main(["compress", str(tmp_path / "a.pt"), "-o", str(tmp_path / "a.dsd")]) == 2
    assert f"{kind} of a.pt has 1 values that are NaN or infinite" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"w": torch.ones(2), "epoch": 3}, "not tensors: epoch (int)"),
        ([torch.ones(2)], "holds a list, not tensors by name"),
        ({}, "holds no tensors"),
        ({0: torch.ones(2)}, "holds tensors without names"),
        (
            {"w": torch.ones(40).to(torch.float8_e4m3fn)},
            "float8_e4m3fn tensors of layout torch.strided can't be stored",
        ),
        ({"f": LeNet300}, "holds Python objects besides tensors"),
    ],
)
def test_what_is_no_state_is_told(content, reason, tmp_path, capsys):
    torch.save(content, tmp_path / "a.pt")
    assert main(["compress", str(tmp_path / "a.pt"), "-o", str(tmp_path / "a.dsd")]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants", "ignore:.*beta state")
def test_sparse_tensors_are_taken_as_dense_ones(tmp_path, capsys):
    weight = torch.eye(300)
    torch.save({"w": weight}, tmp_path / "a.pt")
    assert main(["export", str(tmp_path / "a.pt"), "--to", "csr", "-o", str(tmp_path / "rows.pt")]) == 0
    torch.save({"w": weight.to_sparse_coo()}, tmp_path / "coo.pt")
    for name in ("rows", "coo"):
        assert main(["compress", str(tmp_path / f"{name}.pt"), "-o", str(tmp_path / "a.dsd")]) == 0
        assert torch.equal(decompress(tmp_path / "a.dsd")["w"], weight)
        assert main(["verify", str(tmp_path / "a.dsd"), "--against", str(tmp_path / f"{name}.pt")]) == 0
    for kind in ("csr", "safetensors"):
        out = tmp_path / f"b.{'pt' if kind == 'csr' else kind}"
        assert main(["export", str(tmp_path / "rows.pt"), "--to", kind, "-o", str(out)]) == 0


def test_verify_does_not_call_a_newer_version_damaged(archive, capsys):
    data = bytearray(archive.read_bytes())
    data[4] = 9
    archive.write_bytes(data)
    assert main(["verify", str(archive)]) == 1, "with that checksum it is damaged, whatever it says"
    archive.write_bytes(data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little"))
    assert main(["verify", str(archive)]) == 2
    assert "version 9 is newer than 2" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["name", "note"])
def test_a_text_that_could_not_be_read_is_not_written(what):
    long = "n" * ((1 << 20) + 1)
    with pytest.raises(ValueError, match="a text of 1,048,577 bytes, at most 1,048,576 are possible"):
        compress({long if what == "name" else "w": torch.ones(2)}, meta={"a": long} if what == "note" else {})
    assert list(decompress(compress({long[1:]: torch.ones(2)}).data)) == [long[1:]]


def test_infinity_in_a_buffer_is_told_as_what_it_may_be(tmp_path, capsys):
    torch.save({"w": torch.ones(2), "mask": torch.full((4, 4), -torch.inf).triu(1)}, tmp_path / "a.pt")
    assert main(["compress", str(tmp_path / "a.pt"), "-o", str(tmp_path / "a.dsd")]) == 2
    assert "mask of" in (err := capsys.readouterr().err)
    assert "6 values that are NaN or infinite" in err
    assert "leave it out" in err


def test_messages_speak_of_what_this_command_has(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "none"]) == 2
    assert "none is no file, and no run in runs begins so" in (err := capsys.readouterr().err)
    assert "init_from" not in err
    words = ["--model", "dsd.models.LeNet300", "--model-args", json.dumps(LENET300 | {"hidden": [30, 10]})]
    assert main(["export", str(checkpoint), "--to", "onnx", "-o", "a.onnx", *words]) == 2
    assert "is not the network that they are of" in (err := capsys.readouterr().err)
    assert "skip=" not in err


@pytest.mark.parametrize("out", ["a.pt", "other.safetensors"])
def test_an_archive_takes_no_checkpoints_name(out, checkpoint, tmp_path, capsys):
    before = checkpoint.read_bytes()
    assert main(["compress", str(checkpoint), "-o", str(tmp_path / out)]) == 2
    assert "give the archive one of its own, such as" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before
    assert main(["compress", str(checkpoint), "-o", str(tmp_path / "new" / "a.dsd")]) == 0


def test_complex_numbers_go_all_the_way(tmp_path, capsys):
    z = torch.randn(40, dtype=torch.complex128)
    torch.save({"z": z, "conjugate": z.conj()}, tmp_path / "a.pt")
    assert main(["compress", str(tmp_path / "a.pt"), "-o", str(tmp_path / "a.dsd")]) == 0
    assert main(["inspect", str(tmp_path / "a.dsd"), "--html", str(tmp_path / "a.html")]) == 0
    assert main(["decompress", str(tmp_path / "a.dsd"), "-o", str(tmp_path / "b.safetensors")]) == 2
    assert "safetensors has no torch.complex128: write to .pt" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "a.dsd"), "--against", str(tmp_path / "a.pt")]) == 0
    found = decompress(tmp_path / "a.dsd")
    assert torch.equal(found["z"], z)
    assert torch.equal(found["conjugate"], z.conj().resolve_conj())


def test_tied_tensors_count_once_in_every_sum(tmp_path, capsys):
    w = torch.randn(64, 32)
    torch.save({"a": w, "b": w}, tmp_path / "a.pt")
    assert main(["compress", str(tmp_path / "a.pt"), "-o", str(tmp_path / "a.dsd")]) == 0
    assert re.search(r"2 others +2,048 ", capsys.readouterr().out)
    assert lines(inspect(tmp_path / "a.dsd", beside=False))[-1].n == 2048


def test_a_run_is_compressed_by_its_folder_and_knows_its_network(state, tmp_path, capsys, monkeypatch):
    run = tmp_path / "runs" / "abc123"
    run.mkdir(parents=True)
    save_file(state, run / "final.safetensors")
    model = {"_target_": "dsd.models.LeNet300", **LENET300}
    result = {"name": "dsd_lenet300_mnist", "config": {"model": model}}
    (run / "result.json").write_text("{}")
    monkeypatch.setattr("dsd.results.store.RunFolder.read_result", lambda self: result)
    monkeypatch.chdir(tmp_path)
    assert main(["compress", "abc", "-o", "a.dsd", "--meta", "note=x=y"]) == 0
    assert read_meta(tmp_path / "a.dsd") == {"experiment": result["name"], "model": json.dumps(model), "note": "x=y"}
    pytest.importorskip("onnx")
    assert main(["export", "a.dsd", "--to", "onnx", "-o", "a.onnx"]) == 0
    assert "weights in one byte" in capsys.readouterr().out


def test_verify_finds_every_changed_byte(archive, capsys):
    data = archive.read_bytes()
    other = archive.with_name("changed.dsd")
    codes = set()
    for at in range(0, len(data), max(1, len(data) // 60)):
        other.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        codes.add(main(["verify", str(other)]))
    assert codes == {1}
    assert "damaged" in capsys.readouterr().out


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_verify_finds_a_cut(size, archive, capsys):
    other = archive.with_name("cut.dsd")
    other.write_bytes(archive.read_bytes()[:size])
    assert main(["verify", str(other)]) == 1
    assert "damaged" in capsys.readouterr().out


def test_verify_names_what_differs(archive, state, capsys):
    state["fc1.weight"][0, :5] += 1
    state["fc2.bias"] = state["fc2.bias"].double()
    state["new"] = state.pop("fc3.bias")
    plain(state, archive.with_name("other.pt"))
    assert main(["verify", str(archive), "--against", str(archive.with_name("other.pt"))]) == 1
    said = capsys.readouterr().out.splitlines()[1:]
    assert sorted(said) == [
        "fc1.weight: 5 of 23,520 values differ",
        "fc2.bias: (20,) torch.float32, and (20,) torch.float64",
        "fc3.bias: only in one of them",
        "new: only in one of them",
    ]


@pytest.mark.parametrize("words", ["decompress -o", "export --to safetensors -o", "inspect --html"])
def test_what_is_read_is_not_written_over(words, archive, capsys):
    before = archive.read_bytes()
    verb, *rest = words.split()
    assert main([verb, str(archive), *rest, str(archive)]) == 2
    assert "is what is read, and would be lost" in " ".join(capsys.readouterr().err.split())
    assert archive.read_bytes() == before


@pytest.mark.parametrize("command", ["verify", "inspect", "decompress", "compress", "export"])
def test_no_file_is_told(command, tmp_path, capsys):
    rest = {"decompress": ["-o", "a.pt"], "compress": ["-o", "a.dsd"], "export": ["--to", "csr", "-o", "a.pt"]}
    assert main([command, str(tmp_path / "no.dsd"), *rest.get(command, [])]) == 2
    assert "no.dsd" in capsys.readouterr().err


def test_inspect_shows_the_same_of_an_archive_and_its_checkpoint(archive, checkpoint, capsys):
    assert main(["inspect", str(archive)]) == 0
    packed = capsys.readouterr().out
    assert main(["inspect", str(checkpoint)]) == 0
    assert capsys.readouterr().out.splitlines()[:8] == packed.splitlines()[:8]
    assert f"{archive.stat().st_size:,}" in packed


def test_the_page_needs_nothing_else_and_has_a_figure_of_each_weight(archive, tmp_path, capsys):
    assert main(["inspect", str(archive), "--html", str(tmp_path / "a.html")]) == 0
    page = (tmp_path / "a.html").read_text()
    assert page.count("<svg") == 3
    assert "16 shared values" in page
    assert "prefers-color-scheme: dark" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert f"{archive.stat().st_size:,} bytes" in page


def test_published_rows_stand_beside(tmp_path, monkeypatch, checkpoint, capsys):
    ledger = {
        "fc1.weight": {"kept": 8, "percent": 2.32},
        "total": {"percent": 2.49},
    }
    (tmp_path / "paper.yaml").write_text(json.dumps({"published": {"rows": [{"phase": "dense"}], "ledger": ledger}}))
    monkeypatch.setattr(inspection, "EXPERIMENTS", tmp_path)
    assert main(["compress", str(checkpoint), "-o", str(tmp_path / "a.dsd"), "--meta", "experiment=paper"]) == 0
    said = capsys.readouterr().out
    assert "paper %" in said
    assert "2.32" in said
    assert main(["inspect", str(tmp_path / "a.dsd"), "--html", str(tmp_path / "a.html")]) == 0
    assert "<td>8 %</td><td>2.32 %</td>" in (tmp_path / "a.html").read_text()


def test_every_published_ledger_names_tensors_and_their_sum():
    """Of the LeNets, whose names are known here."""
    found = {name: inspection.published(f"dc_{name}_mnist") for name in ("lenet300", "lenet5")}
    assert found["lenet300"].keys() == {"fc1.weight", "fc2.weight", "fc3.weight", "total"}
    assert found["lenet5"].keys() == {"conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight", "total"}
    assert found["lenet300"]["total"]["percent"] == 2.49


def test_a_name_in_the_meta_reads_no_other_file():
    assert inspection.published("../experiment/dsd_squeezenet") == {}


def test_histograms_count_every_value():
    value = torch.tensor([0.0, -1.0, 1.0, 0.5, 0.5, 0.0, float("nan"), float("inf")])
    shown = inspection.histogram(value, distinct=0)
    assert (shown.limit, shown.zeros, sum(shown.counts), shown.shared) == (1.0, 2, 4, ())
    assert inspection.histogram(torch.tensor([0.0, 2.0, -3.0] * 8), distinct=2).shared == (-3.0, 2.0)
    assert inspection.histogram(torch.zeros(0), distinct=0).bars.strip() == ""


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta", "ignore:Validating sparse tensor invariants")
def test_export_to_rows_and_tensors(archive, state, tmp_path, capsys):
    assert main(["export", str(archive), "--to", "csr", "-o", str(tmp_path / "a.pt")]) == 0
    assert "3 matrices as rows" in capsys.readouterr().out
    assert all(torch.equal(value.to_dense(), state[name]) for name, value in load(tmp_path / "a.pt").items())
    assert main(["export", str(archive), "--to", "safetensors", "-o", str(tmp_path / "a.safetensors")]) == 0
    assert not differences(load_file(tmp_path / "a.safetensors"), decompress(archive))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "does not say which network it is: name it, such as --model"),
        (["--model", "os.system"], "must be one of dsd.models or torchvision.models"),
        (["--model", "dsd.models.LeNet300", "--model-args", "[1]"], "--model-args must be a JSON object, found '[1]'"),
        (["--model", "dsd.models.LeNet300", "--model-args", "{"], "--model-args must be a JSON object"),
        (["--model", "dsd.models.LeNet300", "--model-args", json.dumps(LENET300), "--input", "a"], "--input 3,224,224, found a"),
        (["--model", "dsd.models.LeNet300", "--model-args", json.dumps(LENET300), "--input=-1,28,28"], "does not take images of shape (-1, 28, 28)"),
    ],
)  # fmt: skip
def test_onnx_needs_a_network(words, reason, archive, tmp_path, capsys):
    assert main(["export", str(archive), "--to", "onnx", "-o", str(tmp_path / "a.onnx"), *words]) == 2
    assert reason in capsys.readouterr().err


def test_pruning_and_sharing_leave_the_given_state_alone(state):
    before = copy.deepcopy(state)
    shared(pruned(state, 0.95), conv_bits=None, fc_bits=2)
    assert not differences(state, before)


def test_zeros_of_either_sign_are_equal_and_neighbours_are_not():
    value = torch.tensor([0.0, 1.0])
    assert differences({"w": value}, {"w": torch.tensor([-0.0, 1.0])}) == []
    assert differences({"w": value}, {"w": torch.tensor([0.0, 1.0 + 2**-23])}) == ["w: 1 of 2 values differ"]


@pytest.mark.parametrize(
    "value", [torch.zeros(0, 3), torch.tensor(2.0), torch.ones(3).bool(), torch.ones(2, 2).half().t()]
)
def test_any_tensor_equals_itself(value):
    assert differences({"w": value}, {"w": value.clone()}) == []


def test_help_needs_no_torch():
    code = "import sys; from dsd.command import parser; parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "dsd", "--help"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.startswith("usage: dsd")) == (0, True)


@pytest.mark.parametrize("words", [["--bits", "4"], ["--sparsity", "0.5"], ["--budget", "9000"]])
def test_tied_weights_stay_one(words, tmp_path):
    weight = torch.randn(200, 64)
    torch.save({"embedding.weight": weight, "head.weight": weight}, tmp_path / "tied.pt")
    assert main(["compress", str(tmp_path / "tied.pt"), "-o", str(tmp_path / "tied.dsd"), *words]) == 0
    state = decompress(tmp_path / "tied.dsd")
    assert state["embedding.weight"].data_ptr() == state["head.weight"].data_ptr()
    assert not torch.equal(state["head.weight"], weight)


def test_a_budget_is_kept_by_bits_chosen_for_each_weight(tmp_path, capsys):
    path, out = tmp_path / "net.pt", tmp_path / "net.dsd"
    torch.manual_seed(0)
    torch.save(LeNet300(**LENET300).state_dict(), path)
    assert main(["compress", str(path), "-o", str(out), "--sparsity", "0.8", "--budget", "6000"]) == 0
    assert 4000 < out.stat().st_size <= 6000
    assert "bits: fc1.weight" in capsys.readouterr().out
    assert main(["compress", str(path), "-o", str(out), "--budget", "100"]) == 2
    assert "prune first" in capsys.readouterr().err
    assert main(["compress", str(path), "-o", str(out), "--budget", "6000", "--bits", "4"]) == 2
    assert "--budget chooses the bits" in capsys.readouterr().err


def test_a_budget_that_is_met_changes_nothing(checkpoint, state, tmp_path):
    out = tmp_path / "net.dsd"
    assert main(["compress", str(checkpoint), "-o", str(out), "--budget", "1000000", "--fillers", "paper"]) == 0
    assert not differences(decompress(out), state)


@pytest.mark.parametrize(
    "words", [["compress", "model.pt"], ["decompress", "model.dsd"], ["import", "model.pt"], ["bench"]]
)
def test_what_is_no_file_is_not_put_aside_for_one(words, tmp_path, capsys):
    """As root `-o /dev/null` would make a file of the device."""
    os.mkfifo(tmp_path / "device")
    for place in (tmp_path / "device", tmp_path):
        with pytest.raises(SystemExit) as end:
            main([*words, "-o", str(place)])
        assert end.value.code == 2
        assert f"{place} is no file, but a folder or a device" in capsys.readouterr().err
    assert (tmp_path / "device").is_fifo()
