"""Checkpoints of other pruning libraries: written by these where they install, by hand in their layout where not."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelPruning
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

from dsd.command import main
from dsd.compression import decompress
from dsd.migration import imported


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


class Task(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = net()

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_torch_prune(tmp_path):
    model = net()
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    prune.random_unstructured(model[2], "bias", amount=1)
    torch.save(model.state_dict(), tmp_path / "a.pt")
    found = imported(tmp_path / "a.pt")
    assert found.layout == "torch.nn.utils.prune"
    assert found.density == {"0.weight": 0.5, "2.bias": pytest.approx(2 / 3)}
    assert torch.equal(found.weights["0.weight"], model[0].weight)
    net().load_state_dict(found.weights)


def test_pairs_are_of_0_and_1_and_what_is_pruned_is_0(tmp_path):
    pair = {"w_orig": torch.tensor([torch.nan, 2.0, -3.0]), "w_mask": torch.tensor([0.0, 1.0, 0.0])}
    torch.save(pair, tmp_path / "a.pt")
    found = imported(tmp_path / "a.pt").weights["w"]
    assert found.tolist() == [0, 2, 0]
    assert not found.signbit().any()
    torch.save(pair | {"w_mask": torch.tensor([0.0, 0.5, 0.0])}, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="mask w_mask holds other values than 0 and 1"):
        imported(tmp_path / "b.pt")


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants", "ignore:Sparse CSR tensor support")
def test_weights_that_are_stored_sparse(tmp_path):
    dense = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    torch.save({"w": torch.tensor([[True, False], [True, True]])}, tmp_path / "m.pt")
    for stored in (dense.to_sparse(), dense.to_sparse_csr()):
        torch.save({"w": stored}, tmp_path / "w.pt")
        found = imported(tmp_path / "w.pt", masks=tmp_path / "m.pt", ones="kept").weights["w"]
        assert torch.equal(found, torch.tensor([[1.0, 0.0], [3.0, 0.0]]))


def test_torch_prune_in_safetensors(tmp_path):
    model = net()
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    save_file({f"module.{name}": value for name, value in model.state_dict().items()}, tmp_path / "a.safetensors")
    found = imported(tmp_path / "a.safetensors")
    assert found.density == {"0.weight": 0.5}
    assert torch.equal(found.weights["0.weight"], model[0].weight)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*smaller than the logging interval.*")
@pytest.mark.filterwarnings("ignore:.*GPU.*", "ignore:.*checkpoint directory.*")
def test_lightning_model_pruning(tmp_path):
    task = Task()
    pruning = ModelPruning(
        "l1_unstructured", parameters_to_prune=[(task.net[0], "weight")], amount=0.75, use_lottery_ticket_hypothesis=False,
        make_pruning_permanent=False,
    )  # fmt: skip
    trainer = pl.Trainer(
        max_epochs=1, callbacks=[pruning], logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        default_root_dir=tmp_path, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(task, DataLoader(TensorDataset(torch.randn(40, 6)), batch_size=20))
    trainer.save_checkpoint(tmp_path / "b.ckpt")
    assert "net.0.weight_mask" in torch.load(tmp_path / "b.ckpt", weights_only=True)["state_dict"]
    found = imported(tmp_path / "b.ckpt")
    assert found.density == {"0.weight": 0.25}
    assert torch.equal(found.weights["0.weight"], task.net[0].weight)


@pytest.mark.parametrize("key", ["masks_dict", "zeros_mask_dict"])
def test_distiller(tmp_path, key):
    """The layout that its save_checkpoint writes; DataParallel sits inside of the names of AlexNet and VGG."""
    state = {f"features.module.{name}": value for name, value in net().state_dict().items()}
    mask = (torch.arange(48).reshape(8, 6) % 3 == 0).float()
    masks = {"features.module.0.weight": mask, "features.module.0.bias": None, "features.module.2.weight": None}
    held = {
        "epoch": 3,
        "arch": "small",
        "state_dict": state,
        "compression_sched": {key: masks},
        "optimizer_state_dict": torch.optim.SGD([torch.zeros(1)], lr=0.1).state_dict(),
        "optimizer_type": torch.optim.SGD,  # a class, not its name
        "extras": {"best_top1": 1.0},
    }
    torch.save(held, tmp_path / "d.pth.tar")
    found = imported(tmp_path / "d.pth.tar")
    assert found.layout == "Distiller"
    assert found.density == {"features.0.weight": pytest.approx(1 / 3)}
    assert torch.equal(found.weights["features.0.weight"], state["features.module.0.weight"] * mask)
    assert set(found.weights) == {f"features.{name}" for name in net().state_dict()}
    with pytest.raises(ValueError, match=r"masks of its own, 1 = kept: leave --masks and --ones out"):
        imported(tmp_path / "d.pth.tar", ones="kept")


@pytest.mark.parametrize("key", ["masks_dict", "zeros_mask_dict"])
def test_masks_that_only_look_like_distillers_are_not_guessed(tmp_path, key):
    torch.save({"state_dict": net().state_dict(), key: {"0.weight": torch.ones(8, 6)}}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=f"{key} outside of compression_sched.* nothing says what 1 means"):
        imported(tmp_path / "a.pt")
    torch.save({"0.weight": torch.arange(48).reshape(8, 6) % 2}, tmp_path / "m.pt")
    found = imported(tmp_path / "a.pt", masks=tmp_path / "m.pt", ones="kept")
    assert found.density == {"0.weight": 0.5}, "as the message says"


def test_masks_may_be_called_as_the_weights_of_a_lightning_checkpoint(tmp_path):
    weights = {f"net.{name}": value for name, value in net().state_dict().items()}
    torch.save({"state_dict": weights, "pytorch-lightning_version": "2.6"}, tmp_path / "w.ckpt")
    mask = torch.arange(48).reshape(8, 6) % 2 == 0
    for name in ("net.0.weight", "0.weight", "net.0.weight_mask"):
        torch.save({name: mask}, tmp_path / "m.pt")
        found = imported(tmp_path / "w.ckpt", masks=tmp_path / "m.pt", ones="kept")
        assert torch.equal(found.weights["0.weight"], weights["net.0.weight"] * mask)
    torch.save({"net.0.weight": mask, "0.weight": ~mask}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"two masks for a weight, one with net\."):
        imported(tmp_path / "w.ckpt", masks=tmp_path / "m.pt", ones="kept")


def test_a_pair_that_is_not_whole_is_told(tmp_path):
    pair = {"a_orig": torch.ones(3), "a_mask": torch.tensor([1.0, 0, 1]), "b_orig": torch.ones(3)}
    torch.save(pair, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="is not whole: b_orig has no b_mask"):
        imported(tmp_path / "a.pt")


def test_with_a_file_of_masks_only_these_are_masks(tmp_path):
    torch.save({"attn": torch.ones(2), "attn_mask": torch.tensor([1.0, 0]), "w": torch.ones(2)}, tmp_path / "w.pt")
    torch.save({"w": torch.tensor([0.0, 1])}, tmp_path / "m.pt")
    found = imported(tmp_path / "w.pt", masks=tmp_path / "m.pt", ones="kept")
    assert found.density == {"w": 0.5}
    assert found.weights["attn"].tolist() == [1, 1]


def test_distiller_without_any_mask_or_weights(tmp_path):
    torch.save(
        {"state_dict": net().state_dict(), "compression_sched": {"masks_dict": {"0.weight": None}}}, tmp_path / "a.pth"
    )
    with pytest.raises(ValueError, match="a list of masks, and none in it"):
        imported(tmp_path / "a.pth")
    torch.save({"compression_sched": {"masks_dict": {"0.weight": torch.ones(8, 6)}}}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match="masks of Distiller and no state_dict"):
        imported(tmp_path / "b.pth")


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
@pytest.mark.parametrize("name", ["0.weight", "0.weight_mask", "0.weight.mask"])
@pytest.mark.parametrize("ones", ["kept", "pruned"])
def test_bare_masks_of_either_meaning(tmp_path, ones, name, dtype):
    state, keep = net().state_dict(), torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) < 0.3
    save_file(state, tmp_path / "w.safetensors")
    torch.save({name: (keep if ones == "kept" else ~keep).to(dtype)}, tmp_path / "m.pt")
    found = imported(tmp_path / "w.safetensors", masks=tmp_path / "m.pt", ones=ones)
    assert torch.equal(found.weights["0.weight"], state["0.weight"] * keep)
    assert found.density == {"0.weight": pytest.approx(float(keep.float().mean()))}
    other = imported(tmp_path / "w.safetensors", masks=tmp_path / "m.pt", ones="pruned" if ones == "kept" else "kept")
    assert torch.equal(other.weights["0.weight"], state["0.weight"] * ~keep)  # as it was told: nothing is guessed


def test_bare_masks_in_the_weights_file(tmp_path):
    keep = torch.eye(8)[:, :6]
    torch.save({**net().state_dict(), "0.weight_mask": keep}, tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"bare masks \(0.weight_mask\), and nothing says what 1 means.*--ones kept, or --ones pruned"
    ):
        imported(tmp_path / "a.pt")
    found = imported(tmp_path / "a.pt", ones="kept")
    assert found.density == {"0.weight": pytest.approx(1 / 8)}
    assert "0.weight_mask" not in found.weights


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        ({"0.weight": torch.full((8, 6), 0.5)}, "other values than 0 and 1"),
        ({"0.weight": torch.ones(6, 8)}, r"\(6, 8\) has no weight of shape \(8, 6\)"),
        ({"7.weight": torch.ones(8, 6)}, r"7.weight \(8, 6\) has no weight to go with"),
    ],
)
def test_masks_that_do_not_fit(tmp_path, mask, reason):
    torch.save(net().state_dict(), tmp_path / "a.pt")
    torch.save(mask, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=reason):
        imported(tmp_path / "a.pt", masks=tmp_path / "m.pt", ones="kept")


def test_a_meaning_that_the_weights_contradict(tmp_path):
    state, keep = net().state_dict(), torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) < 0.3
    state["0.weight"] *= keep
    torch.save(state, tmp_path / "a.pt")
    torch.save({"0.weight": ~keep}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match=r"leave nothing of 0.weight but zeros: its ones mean the opposite of 'kept'"):
        imported(tmp_path / "a.pt", masks=tmp_path / "m.pt", ones="kept")
    assert torch.equal(
        imported(tmp_path / "a.pt", masks=tmp_path / "m.pt", ones="pruned").weights["0.weight"], state["0.weight"]
    )


def test_a_mask_of_nothing_but_zeros_is_told_as_what_it_is(tmp_path):
    state = net().state_dict()
    torch.save(state, tmp_path / "a.pt")
    torch.save({"0.weight": torch.zeros(8, 6)}, tmp_path / "m.pt")
    with pytest.raises(
        ValueError, match=r"would leave nothing of 0.weight but zeros: .* opposite of 'kept'; or, .* set it to 0"
    ):
        imported(tmp_path / "a.pt", masks=tmp_path / "m.pt", ones="kept")
    state["0.weight"].zero_()
    torch.save(state, tmp_path / "a.pt")
    assert imported(tmp_path / "a.pt", masks=tmp_path / "m.pt", ones="kept").density["0.weight"] == 0


@pytest.mark.parametrize("lost", ["a.pt", "m.pt"])
def test_what_is_read_is_not_written_over(tmp_path, lost, capsys):
    torch.save(net().state_dict(), tmp_path / "a.pt")
    torch.save({"0.weight": torch.ones(8, 6)}, tmp_path / "m.pt")
    before = (tmp_path / lost).read_bytes()
    words = [
        "import",
        str(tmp_path / "a.pt"),
        "--masks",
        str(tmp_path / "m.pt"),
        "--ones",
        "kept",
        "-o",
        str(tmp_path / lost),
    ]
    assert main(words) == 2
    assert f"{lost} is what is read, and would be lost: give the new file another name" in " ".join(
        capsys.readouterr().err.split()
    )
    assert (tmp_path / lost).read_bytes() == before


def test_without_masks_there_is_nothing_to_import(tmp_path):
    torch.save(net().state_dict(), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"no masks that are known here.*--masks FILE --ones"):
        imported(tmp_path / "a.pt")
    with pytest.raises(ValueError, match="no bare masks that --ones could speak of"):
        imported(tmp_path / "a.pt", ones="kept")
    with pytest.raises(ValueError, match="there is no file"):
        imported(tmp_path / "none.pt")


def test_the_command(tmp_path, capsys):
    model = net()
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    torch.save(model.state_dict(), tmp_path / "a.pt")
    for name in ("out.safetensors", "out.dsd"):
        assert main(["import", str(tmp_path / "a.pt"), "-o", str(tmp_path / name)]) == 0
        assert "layout: torch.nn.utils.prune; kept: 0.weight 50.0 %" in capsys.readouterr().out
    plain, packed = load_file(tmp_path / "out.safetensors"), decompress(tmp_path / "out.dsd")
    assert torch.equal(plain["0.weight"], model[0].weight)
    assert all(torch.equal(plain[name], packed[name]) for name in plain)
    assert main(["import", str(tmp_path / "a.pt"), "-o", str(tmp_path / "x.dsd"), "--ones", "kept"]) == 2
    assert "no bare masks" in capsys.readouterr().err
    assert not (tmp_path / "x.dsd").exists()


def test_bench_refuses_what_it_cannot_do(capsys, tmp_path):
    assert main(["bench", "--networks", "LeNet-6"]) == 2
    assert "no network 'LeNet-6' in the bench; it has LeNet-300-100" in capsys.readouterr().err
    assert main(["bench", "--only", "layers", "--write-crossover", str(tmp_path / "c.json")]) == 2
    with pytest.raises(SystemExit):
        main(["bench", "--write-crossover", str(tmp_path)])
    assert "needs the part crossover" in capsys.readouterr().err
    assert main(["bench", "--only", "layers", "--batch", "0"]) == 2


def test_bench_prints_and_keeps(capsys, tmp_path):
    words = [
        "bench",
        "--networks",
        "LeNet-300-100",
        "--batch",
        "1",
        "--rounds",
        "2",
        "--budget",
        "0.2",
        "--no-compile",
        "--threads",
        "1",
    ]
    assert main([*words, "-o", str(tmp_path / "bench.json")]) == 0
    said = capsys.readouterr().out
    assert "Whole networks" in said
    assert "LeNet-300-100" in said
    assert (tmp_path / "bench.json").exists()


def test_an_empty_checkpoint_is_told(tmp_path, capsys):
    torch.save({}, tmp_path / "a.pt")
    torch.save({"w": torch.ones(3)}, tmp_path / "w.pt")
    for words in ([tmp_path / "a.pt"], [tmp_path / "w.pt", "--masks", tmp_path / "a.pt", "--ones", "kept"]):
        assert main(["import", *map(str, words), "-o", str(tmp_path / "b.safetensors")]) == 2
        assert "a.pt holds no tensors" in capsys.readouterr().err


def lightning(tmp_path, **state):
    held = {name.replace("__", "."): value for name, value in state.items()}
    torch.save({"pytorch-lightning_version": "2.6", "state_dict": held}, tmp_path / "l.ckpt")
    return tmp_path / "l.ckpt"


def test_all_of_a_lightning_checkpoint_is_imported(tmp_path):
    half = torch.tensor([[1.0, 0.0]])
    path = lightning(tmp_path, net__weight_orig=torch.ones(1, 2), net__weight_mask=half, head__weight_orig=torch.ones(1, 2),
                     head__weight_mask=half)  # fmt: skip
    found = imported(path)
    assert found.density == {"net.weight": 0.5, "head.weight": 0.5}
    assert torch.equal(found.weights["head.weight"], half)
    assert main(["compress", str(path), "-o", str(tmp_path / "l.dsd")]) == 0
    assert set(decompress(tmp_path / "l.dsd")) == {"net.weight", "head.weight"}


def test_distillers_names_may_begin_as_lightnings(tmp_path):
    held = {
        "state_dict": {"net.w": torch.ones(4)},
        "compression_sched": {"masks_dict": {"net.w": torch.tensor([1.0, 0, 0, 0])}},
    }
    torch.save(held, tmp_path / "d.pt")
    assert imported(tmp_path / "d.pt").density == {"net.w": 0.25}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor.*")
def test_density_is_the_masks(tmp_path):
    kept = torch.tensor([1.0, 1, 0, 0])
    torch.save({"bias_orig": torch.zeros(4), "bias_mask": kept}, tmp_path / "p.pt")
    torch.save({"bias": torch.tensor([1.0, 0, 1, 0]).to_sparse()}, tmp_path / "m.pt")
    assert imported(tmp_path / "p.pt").density == {"bias": 0.5}
    assert imported(tmp_path / "p.pt", masks=tmp_path / "m.pt", ones="kept").density == {"bias": 0.25}


def test_two_masks_for_a_weight(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "w.pt")
    torch.save({"w": torch.ones(2), "w_mask": torch.zeros(2)}, tmp_path / "m.pt")
    with pytest.raises(ValueError, match="two masks for w: w and w_mask"):
        imported(tmp_path / "w.pt", masks=tmp_path / "m.pt", ones="kept")


def test_import_makes_the_folder_of_an_archive(tmp_path):
    torch.save({"w_orig": torch.ones(4), "w_mask": torch.tensor([1.0, 0, 0, 0])}, tmp_path / "w.pt")
    assert main(["import", str(tmp_path / "w.pt"), "-o", str(tmp_path / "new" / "w.dsd")]) == 0
    assert (tmp_path / "new" / "w.dsd").is_file()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--only", "networks", "--layers", "AlexNet fc6"], "--only leaves all layers out"),
        (["--layers", ""], "--layers names none: leave it out for all of them"),
        (["--layers", "AlexNet fc6", "--threads", "999"], "999 threads for all arms, but numba has at most"),
    ],
)
def test_bench_says_what_does_not_go_together(words, reason, capsys):
    assert main(["bench", *words]) == 2
    assert reason in capsys.readouterr().err


def test_bench_names_a_file_that_is_no_json(tmp_path, capsys):
    (tmp_path / "bad.json").write_text("no")
    assert main(["bench", "--layers", "NeuralTalk Wd", "-o", str(tmp_path / "bad.json")]) == 2
    assert "bad.json is no result of dsd bench" in capsys.readouterr().err
