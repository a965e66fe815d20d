"""Every experiment x profile x method composes, and takes an update on data of its own shape."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

import dsd.run  # noqa: F401  (its resolvers)
from dsd.plan import Plan, flat
from dsd.sparsity import Sparse

CONF = Path(__file__).parents[1] / "conf"


def names(group: str) -> list[str]:
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


def composed(*overrides: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


def phases_of(cfg) -> tuple:
    return flat(instantiate(cfg.method.phases, _convert_="all"))


# Every experiment, and of DSD's own tables the published lengths too: `cpu` has other numbers in the same places.
COMBINATIONS = [(e, p) for e in names("experiment") for p in ("quick", "paper") if p == "quick" or e.startswith("dsd_")]


@pytest.mark.parametrize(("experiment", "profile"), COMBINATIONS)
def test_all_arms_have_the_same_updates(experiment, profile):
    """`baseline` alone is shorter: it is the papers' own first row; and `dsdsd_whole` longer: it is their own second round."""
    words, updates = (f"experiment={experiment}", f"profile={profile}"), {}
    alone = composed(*words)
    OmegaConf.set_struct(alone, False)
    for method in names("method"):
        path = CONF / "method" / f"{method}.yaml"
        builds_on_others = "defaults:" in path.read_text()
        cfg = composed(*words, f"method={method}") if builds_on_others else alone
        if not builds_on_others:  # one file, put in place: 20 times faster than composing everything again
            cfg.method = OmegaConf.load(path)
        OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        assert cfg.method.name == method
        updates[method] = Plan(phases_of(cfg), 300).updates
    baseline, whole = updates.pop("baseline"), updates.pop("dsdsd_whole")
    assert len(set(updates.values())) == 1
    assert 0 < baseline < updates["dsd"] < whole


PUBLISHED_DSDSD = {  # PROTOCOLS 1.2: epochs, rate, sparsity of the five phases
    "dsd_deepspeech1": [(50, 8e-4, 0), (50, 5e-4, 0.5), (50, 3e-4, 0), (50, 1e-4, 0.25), (50, 3e-5, 0)],
    "dsd_deepspeech2": [(20, 3e-4, 0), (20, 3e-4, 0.5), (20, 3e-5, 0), (20, 3e-5, 0.25), (20, 6e-6, 0)],
}


@pytest.mark.parametrize("experiment", PUBLISHED_DSDSD)
def test_the_second_round_is_the_published_one(experiment):
    phases = phases_of(composed(f"experiment={experiment}", "profile=paper", "method=dsdsd_whole"))
    assert [
        (
            p.epochs,
            pytest.approx(Plan((p,), 10).rate(0)),
            p.constraint.sparsity * p.constraint.share if p.constraint else 0,
        )
        for p in phases
    ] == PUBLISHED_DSDSD[experiment]


@pytest.mark.parametrize("experiment", names("experiment"))
def test_published_numbers_are_data(experiment):
    cfg = composed(f"experiment={experiment}")
    published = cfg.published
    assert published.source
    assert published.rows[0].phase == "dense"
    sizes_only = experiment == "dc_inception_v3"  # no error of it is published in what we have
    main = {"captioning": "bleu4", "speech": "wer"}.get(cfg.network.get("kind"), "bytes" if sizes_only else "top1")
    assert 0 < published.rows[0][main] < (1e8 if sizes_only else 50)


@pytest.fixture(scope="module")
def tiny_imagenet(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("imagenet")
    draw = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 2)):
        for wnid in ("n01440764", "n01443537"):
            folder = root / "imagenet" / part / wnid
            folder.mkdir(parents=True)
            for k in range(count):
                Image.fromarray(draw.integers(0, 256, (260, 300, 3), np.uint8)).save(folder / f"{k}.JPEG")
    return root


def shaped_like(cfg, tiny_imagenet: Path, tmp_path: Path):
    """The same config, with data of the same shape in the place of what may not be here."""
    OmegaConf.set_struct(cfg, False)
    if cfg.network.get("kind") == "speech":
        cfg.data.source = {"_target_": "dsd.data.Synthesised", "train": 4, "val": 1, "test": 1}
        cfg.data.update(cache=str(tmp_path))
        cfg.model.width = 16
        return cfg
    if cfg.network.get("kind") == "captioning":
        cfg.data.source = {"_target_": "dsd.data.Scenes", "train": 6, "val": 2, "test": 2}
        cfg.data.extractor = {"_target_": "dsd.data.Pixels", "side": 8}
        cfg.data.update(cache=str(tmp_path), min_count=1)
        return cfg
    if "imagenet" in cfg.data._target_.lower():
        cfg.data.update(root=str(tiny_imagenet), workers=0, validation=2, num_classes=2)
        return cfg
    shape = (24, cfg.data.size, cfg.data.size, cfg.data.channels)
    draw = np.random.default_rng(0)
    arrays = {f"x_{part}": draw.integers(0, 256, shape, np.uint8) for part in ("train", "test")}
    labels = {f"y_{part}": np.arange(24) % cfg.data.num_classes for part in ("train", "test")}
    np.savez(tmp_path / "a.npz", **arrays, **labels)
    cfg.data.source = {"_target_": "dsd.data.Arrays", "path": str(tmp_path / "a.npz")}
    cfg.data.validation = 0
    return cfg


# Data of their own in each profile: the large networks take small pictures of either size alike.
SMALL = ("dsd_lenet300_mnist", "dsd_lenet5_mnist", "dsd_resnet20_cifar10", "dsd_neuraltalk_flickr8k", "dsd_deepspeech1")
UPDATES = [*COMBINATIONS, *((e, "cpu") for e in SMALL)]


@pytest.mark.parametrize(("experiment", "profile"), UPDATES)
def test_takes_an_update(experiment, profile, tiny_imagenet, tmp_path):
    composition = composed(f"experiment={experiment}", f"profile={profile}", "data.batch_size=2")
    cfg = shaped_like(composition, tiny_imagenet, tmp_path)
    data = instantiate(cfg.data)
    data.setup("fit")
    assert getattr(data, "image_shape", ()) == tuple(cfg.data[k] for k in ("channels", "size", "size") if k in cfg.data)
    task = instantiate(cfg.task)(instantiate(cfg.model, **data.sizes), instantiate(cfg.optimizer))
    optimizer = task.configure_optimizers()
    before = [p.detach().clone() for p in task.parameters()]
    task.train()
    loss = task.training_step(data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0), 0)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert any(not torch.equal(a, b) for a, b in zip(before, task.parameters(), strict=True))
    final = [p.constraint for p in phases_of(cfg) if isinstance(p.constraint, Sparse) and p.constraint.part == 1]
    looks = experiment == "prune_neuraltalk"  # at the pruned network before retraining it: a phase more
    assert len(final) == (0 if experiment.startswith("ttq_") else 1 + looks)
    for sparse in final:
        weights = sparse.weights(task.network)
        densities = sparse.allocation(weights, sparse.sparsity)
        expected = sum(densities[n] * w.numel() for n, w in weights.items()) / sum(w.numel() for w in weights.values())
        assert sparse.choose(weights, evidence={}, seed=0).density == pytest.approx(expected, abs=2e-4)
        assert set(densities.values()) == {1 - sparse.sparsity} or cfg.sparsities


CAPTIONS = {"neuraltalk", "captioning", "coco", "flickr8k", "flickr8k_lite", "flickr30k", "embedded_captions"}
SPEECH = {
    "deepspeech1",
    "deepspeech2",
    "speech",
    "an4",
    "librispeech",
    "wsj",
    "wsj_ldc",
    "embedded_speech",
    "speech_beam",
}


def home(group: str, name: str) -> str:
    """An experiment in which this choice has a meaning: sequences have networks, data and tasks of their own."""
    if group == "extractor" or name in CAPTIONS:
        return "dsd_neuraltalk_flickr8k"
    return "dsd_deepspeech1" if name in SPEECH else "dsd_resnet18"


@pytest.mark.parametrize("group", [p.name for p in CONF.iterdir() if p.is_dir()])
def test_every_choice_of_a_group_composes(group):
    for name in names(group):
        more = ["model.name=resnet34"] if group == "model" and name in ("torchvision", "timm") else []
        place = "extractor@data.extractor" if group == "extractor" else group
        home_of = ["profile=cpu"] if group == "experiment" else [f"experiment={home(group, name)}"]
        cfg = composed(*home_of, f"{place}={name}", *more)
        assert OmegaConf.to_container(cfg, resolve=not (group == "data" and name == "arrays"))


def test_the_criterion_and_method_choices_reach_the_constraint():
    cfg = composed("method=random_mask", "granularity=filter", "allocation=erk", "recipe.sparse.sparsity=0.6")
    (sparse,) = [p.constraint for p in phases_of(cfg) if p.constraint]
    assert (sparse.criterion.func.__name__, sparse.granularity.func.__name__) == ("random", "filter")
    assert (sparse.allocation.func.__name__, sparse.sparsity, sparse.hold) == ("erk", 0.6, True)
    (once,) = [p.constraint for p in phases_of(composed("method=prune_restore")) if p.constraint]
    assert not once.hold


def test_configs_cite_their_source():
    for experiment in names("experiment"):
        assert re.search(
            r"Han et al\.|model zoo|PROTOCOLS|Iandola et al\.", (CONF / "experiment" / f"{experiment}.yaml").read_text()
        )


def test_an_experiments_own_table_gives_way_to_another_allocation_and_quantization():
    cfg = composed("experiment=dc_lenet300_mnist", "allocation=by_deviation", "method=ttq")
    assert [p.name for p in phases_of(cfg)] == ["dense", "ternary"]
    _, sparse, shared = phases_of(composed("experiment=dc_lenet300_mnist", "allocation=erk", "pruning.l1=0.1"))
    assert (sparse.constraint.allocation.func.__name__, sparse.constraint.l1) == ("erk", 0.1)
    assert shared.constraint.bits == 6
