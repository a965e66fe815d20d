"""`profile=paper` for ImageNet: every recipe is the published one, and runs on a tiny folder in ImageNet's layout."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from dsd.data.order import Order
from dsd.data.split import held_out
from dsd.plan import Plan, flat
from dsd.run.config import composed
from dsd.run.training import few_for_norm
from tests import warm

ROOT = Path(__file__).parents[1]
IMAGES = 1_281_167  # of ILSVRC 2012's training set
WNIDS = ["n01440764", "n01443537", "n01484850"]
SIZES = [(500, 375), (40, 30), (33, 70)]

STEPS = {0: 0.1, 30: 0.01, 60: 0.001}
CAFFE = {"momentum": 0.9, "nesterov": False}
RESNET = {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}
THIRDS = {0: 0.01, 25: 0.001, 50: 0.0001}  # of 74 epochs: 24.7 and 49.3
TWENTY = {0: 0.01, 20: 0.001, 40: 1e-4, 60: 1e-5, 80: 1e-6}
QUICK = {e: 0.01 * (1 - e / 60) ** 0.5 for e in range(60)}
LINEAR = {e: 0.04 * (1 - e / 68) for e in range(68)}
RECIPES = {  # PROTOCOLS 1.2, 1.3 and 3: batch, updates an epoch, optimizer, and of each phase epochs and rates from an epoch on
    "dsd_googlenet": (32, 38474, CAFFE | {"weight_decay": 2e-4}, (60, QUICK), (11, {0: 1e-3}), (22, {0: 1e-4})),
    "dsd_vgg16": (32, 38474, CAFFE | {"weight_decay": 5e-4}, (74, THIRDS), (1.25, {0: 1e-4}), (18, {0: 1e-5})),
    "dsd_resnet18": (256, 4810, RESNET, (90, STEPS), (45, {0: 0.01, 30: 0.001}), (45, {0: 0.001, 30: 0.0001})),
    "dsd_resnet50": (256, 4810, RESNET, (90, STEPS), (45, {0: 0.01, 30: 0.001}), (45, {0: 0.001, 30: 0.0001})),
    "dsd_alexnet": (256, 4810, CAFFE | {"weight_decay": 5e-4}, (90, TWENTY), (20, {0: 1e-3}), (20, {0: 1e-4})),
    "dsd_squeezenet": (512, 2405, CAFFE | {"weight_decay": 2e-4}, (68, LINEAR), (20, {0: 1e-3}), (20, {0: 1e-4})),
    "dc_alexnet": (256, 4810, CAFFE | {"weight_decay": 5e-4}, (90, TWENTY), (20, {0: 1e-3}), (20, {0: 1e-4})),
    "dc_googlenet": (32, 38474, CAFFE | {"weight_decay": 2e-4}, (60, QUICK), (11, {0: 1e-3}), (22, {0: 1e-4})),
    "dc_vgg16": (32, 38474, CAFFE | {"weight_decay": 5e-4}, (74, THIRDS), (20, {0: 1e-4}), (18, {0: 1e-5})),
    "dc_inception_v3": (32, 38474, CAFFE | {"weight_decay": 2e-4}, (60, QUICK), (11, {0: 1e-3}), (22, {0: 1e-4})),
    "dc_resnet50": (256, 4810, RESNET, (90, STEPS), (45, {0: 0.01, 30: 0.001}), (45, {0: 0.001, 30: 0.0001})),
    "dc_squeezenet": (512, 2405, CAFFE | {"weight_decay": 2e-4}, (68, LINEAR), (20, {0: 1e-3}), (20, {0: 1e-4})),
}  # fmt: skip

BIASES = (
    "dsd_googlenet",
    "dsd_vgg16",
    "dsd_alexnet",
    "dc_alexnet",
    "dc_googlenet",
    "dc_vgg16",
    "dc_inception_v3",
)  # at twice the rate

CROPS = {*BIASES, "dsd_squeezenet", "dc_squeezenet"} - {"dc_inception_v3"}  # 224 of 256 pixels, and mirrored


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Nine training and three validation images of each of three classes, of mixed sizes and modes, coloured by class."""
    folder, draw = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for part, count in (("train", 9), ("val", 3)):
        for label, wnid in enumerate(WNIDS):
            (folder / "imagenet" / part / wnid).mkdir(parents=True)
            for k in range(count):
                pixels = draw.integers(0, 90, (3, 4, 3), dtype=np.uint8)
                pixels[:, :, label] += 160
                image = Image.fromarray(pixels).resize(SIZES[k % 3]).convert(["RGB", "L", "CMYK"][(k == 7) + (k == 8)])
                image.save(folder / "imagenet" / part / wnid / f"{wnid}_{k}.JPEG", format="JPEG")
    return folder


def test_every_experiment_on_imagenet_is_here():
    on_imagenet = {
        p.stem for p in (ROOT / "conf/experiment").glob("d[sc]*_*.yaml") if "/data: imagenet" in p.read_text()
    }
    assert on_imagenet == set(RECIPES)


@pytest.mark.parametrize("experiment", RECIPES)
def test_a_recipe_is_the_published_one(experiment, root):
    batch, updates, solver, *published = RECIPES[experiment]
    cfg = composed(f"experiment={experiment}", "profile=paper", f"data.root={root}")
    assert OmegaConf.to_container(cfg.optimizer) | solver == OmegaConf.to_container(cfg.optimizer)
    assert (cfg.task.bias_rate, cfg.task.bias_decay) == ((2, False) if experiment in BIASES else (1, True))
    side, short = (299, 342) if experiment == "dc_inception_v3" else (224, 256)
    assert (cfg.data.batch_size, cfg.data.validation, cfg.data.num_classes) == (batch, 50_000, 1000)
    assert (cfg.data.size, cfg.data.resize) == (side, short)
    view = instantiate(cfg.data)._random
    assert (view.square, view.jitter, view.lighting) == ((256, 0, 0) if experiment in CROPS else (None, 0.4, 0.1))
    with pytest.raises(ValueError, match=r"3 class folders for data\.num_classes=1000"):
        instantiate(cfg.data).setup("fit")
    plan = Plan(flat(instantiate(cfg.method.phases, _convert_="all")), updates)
    assert len(Order(IMAGES - held_out(cfg.data.validation, IMAGES), batch, seed=0)) == updates
    assert [phase.epochs for phase in plan.phases] == [epochs for epochs, _ in published]
    assert plan.updates == math.floor(updates * sum(epochs for epochs, _ in published) + 0.5)
    for (first, end), (epochs, rates) in zip(plan.spans, published, strict=True):
        for epoch in range(int(epochs)):
            expected = rates[max(start for start in rates if start <= epoch)]
            assert plan.rate(first + epoch * updates) == pytest.approx(expected), f"epoch {epoch}"
        assert plan.rate(end - 1) <= plan.rate(first)


def test_the_readme_says_what_a_recipe_costs():
    lines = []
    for experiment, (batch, updates, _, *phases) in RECIPES.items():
        epochs = [length for length, _ in phases]
        all_updates = math.floor(updates * sum(epochs) + 0.5)
        images = sum(epochs) * (IMAGES - 50_000) / 1e6
        lines.append(
            f"| `{experiment}` | {batch} | {' + '.join(map(str, epochs))} | {all_updates:,} | {images:.0f} M |"
        )
    table = "\n".join(lines)
    assert f"|---|---|---|---|---|\n{table}\n<!-- /recipes -->" in (ROOT / "README.md").read_text(), table


@pytest.mark.parametrize("experiment", RECIPES)
def test_many_gpus_share_the_published_batch(experiment):
    batch, *_ = RECIPES[experiment]
    cfg = composed(f"experiment={experiment}", "profile=paper", "trainer=gpus", "trainer.num_nodes=2")
    assert cfg.data.batch_size * 16 == batch
    assert (cfg.trainer.precision, cfg.task.channels_last, cfg.task.compile) == ("bf16-mixed", True, True)
    strategy = instantiate(cfg.trainer.strategy)
    assert strategy._ddp_kwargs == {"gradient_as_bucket_view": True}
    assert not cfg.trainer.get("sync_batchnorm")
    assert composed(f"experiment={experiment}", "trainer=gpus", "++trainer.sync_batchnorm=true").trainer.sync_batchnorm


def test_batch_norm_over_few_images_is_told():
    norm, none = torch.nn.Sequential(torch.nn.BatchNorm2d(3)), torch.nn.Sequential(torch.nn.Linear(3, 3))
    assert "over the 4 images of one of 8 processes: ++trainer.sync_batchnorm=true" in few_for_norm(
        norm, 4, 8, synced=False
    )
    for net, batch, processes, synced in (
        (none, 4, 8, False),
        (norm, 16, 8, None),
        (norm, 4, 1, False),
        (norm, 4, 8, True),
    ):
        assert few_for_norm(net, batch, processes, synced=synced) == ""


def call(*words: str) -> str:
    code, said = warm.call(
        "profile=paper", "track=none", "progress=false", "threads=1", *words, seconds=900, OMP_NUM_THREADS="1"
    )
    assert code == 0, said
    return said


def small(root: Path, runs: Path, *, cropped: bool) -> list[str]:
    """Overrides for a short run on the tiny folder, read by worker processes."""
    change = {
        "data.root": root, "data.num_classes": 3, **({"data.augment.square": 36} if cropped else {}), "data.validation": 5, "data.size": 32, "data.resize": 36, "data.eval_batch_size": 2,
        "data.workers": 2, "profiles.paper.batch_size": 8, "profiles.paper.dense": 2, "profiles.paper.sparse": 1,
        "profiles.paper.redense": 1, "runs": runs,
    }  # fmt: skip
    return [f"{key}={value}" for key, value in change.items()]


def only(runs: Path) -> tuple[Path, dict]:
    (path,) = runs.glob("*/result.json")
    return path.parent, json.loads(path.read_text())


def measured_again(folder: Path, result: dict, root: Path) -> dict[str, float]:
    """Errors and losses of the final weights, by plain torch in one process, every image once."""
    torch.set_num_threads(1)
    cfg = OmegaConf.create(result["config"])
    data = instantiate(cfg.data, root=str(root), workers=0)
    data.setup("fit")
    net = instantiate(cfg.model, **data.sizes)
    net.load_state_dict(load_file(folder / "final.safetensors"))
    net.eval()
    found = {}
    for part, batches in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        with torch.no_grad():
            pairs = [(net(data.to_input(images)), labels) for images, labels in batches]
        scores, labels = (torch.cat(each) for each in zip(*pairs, strict=True))
        found[f"{part}/n"] = len(labels)
        found[f"{part}/error1"] = 100 * float((scores.argmax(1) != labels).double().mean())
        found[f"{part}/loss"] = float(cross_entropy(scores, labels))
    return found


@pytest.mark.parametrize(("devices", "experiment"), [(1, "dc_squeezenet"), (2, "dsd_resnet18")])
def test_a_run_on_a_tiny_imagenet(devices, experiment, root, tmp_path):
    trainer = ["trainer=gpus", "trainer.precision=32-true", "task.compile=false"] if devices > 1 else []
    words = [f"experiment={experiment}", *trainer, f"trainer.devices={devices}", "trainer.accelerator=cpu"]
    said = call(*words, *small(root, tmp_path, cropped=experiment in CROPS))
    folder, result = only(tmp_path)
    assert said.count(f"run {folder.name}: ") == 1, "one process speaks"
    assert result["config"]["data"]["batch_size"] == 8 // devices
    assert (result["updates"], result["images"]) == (4 * 3, 4 * 22), "22 of 27 images in batches of 8, 8 and 6"
    phases = result["metrics"]["phases"]
    assert [phase["updates"] for phase in phases] == [6, 3, 3]
    last = {key: value for key, value in result["history"][-1].items() if key.startswith("val/")}
    assert last == phases[-1]["metrics"]
    again = measured_again(folder, result, root)
    assert (again.pop("val/n"), again.pop("test/n")) == (5, 9) == (5, result["metrics"]["test"]["test/n"])
    assert {k: (last | result["metrics"]["test"])[k] for k in again} == pytest.approx(again, rel=1e-3)
