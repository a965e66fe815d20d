import multiprocessing

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn

from dsd.data import ImageNetData
from dsd.data.folder import class_folders, listing
from dsd.data.picture import Centre, RandomView, lit, random_box, read

random = np.random.default_rng(0)
WNIDS = ["n01", "n02", "n03"]


def picture(path, mode="RGB", size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = random.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size).convert(mode).save(path, format="JPEG")


@pytest.fixture
def root(tmp_path):
    """Seven training and two validation images of each of three classes, in class folders."""
    for part, count in (("train", 7), ("val", 2)):
        for wnid in WNIDS:
            for k in range(count):
                picture(tmp_path / "imagenet" / part / wnid / f"{wnid}_{k}.JPEG", mode=["RGB", "L", "CMYK"][k % 3])
    return tmp_path


def data(root, **change):
    settings = {
        "batch_size": 4,
        "eval_batch_size": 4,
        "seed": 0,
        "validation": 3,
        "augment": {"jitter": 0.4, "lighting": 0.1},
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "size": 16,
        "resize": 20,
        "num_classes": 3,
        "workers": 0,
    }
    return ImageNetData(root=root, **settings | change)


def ready(root, stage=None, **change):
    module = data(root, **change)
    module.setup(stage)
    return module


def equal(left, right):
    pairs = zip(left, right, strict=True)
    return all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in pairs)


def test_the_three_parts(root):
    module = ready(root)
    module.setup()
    assert (module.train_size, module.val_size, module.test_size) == (18, 3, 6)
    assert torch.cat([y for _, y in module.val_dataloader()]).tolist() == [0, 1, 2]
    assert torch.cat([y for _, y in module.test_dataloader()]).tolist() == [0, 0, 1, 1, 2, 2]
    batches = list(module.train_dataloader())
    assert torch.cat([y for _, y in batches]).bincount().tolist() == [6, 6, 6]
    images, labels = module.on_after_batch_transfer(batches[0], 0)
    assert images.shape == (4, 3, 16, 16)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert ready(root, validation=0).val_dataloader() == []


def test_workers_and_resuming_never_change_a_number(root):
    module = ready(root)
    alone = module.train_dataloader()
    shared = ready(root, workers=2).train_dataloader()
    before = torch.get_rng_state()
    first, second = list(alone), list(shared)
    assert equal(first, second)
    alone.sampler.set_epoch(1)
    shared.sampler.set_epoch(1)
    later = list(alone)
    assert equal(later, list(shared))
    assert not equal(first, later)
    assert torch.equal(torch.get_rng_state(), before)
    resumed = module.train_dataloader()
    resumed.sampler.first = 3
    assert equal(list(resumed), first[3:])


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((batch[0].clone(), batch[1].clone()))
        return nn.functional.cross_entropy(self.layer(batch[0].mean((2, 3))), batch[1])

    def validation_step(self, batch, batch_idx):
        assert batch[0].dtype == torch.float32

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class SaveAfter(pl.Callback):
    """Saves a checkpoint inside of the run after each update, as `{updates}.ckpt`."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, *_):
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # pytorch-lightning 2.6 on torch 2.14
def test_a_run_resumed_in_mid_epoch_continues_with_the_next_batch(root, tmp_path):
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)

    def fit(ckpt_path=None, **settings):
        net = Net()
        trainer = pl.Trainer(accelerator="cpu", max_epochs=2, callbacks=SaveAfter(tmp_path), **quiet)
        trainer.fit(net, datamodule=data(root, **settings), weights_only=False, ckpt_path=ckpt_path)
        return net.seen

    undisturbed = fit()
    assert len(undisturbed) == 10
    assert equal(fit(tmp_path / "7.ckpt", workers=2), undisturbed[7:])
    assert multiprocessing.active_children() == []


def test_flat_validation_images_with_a_list(root):
    val = root / "imagenet/val"
    lines = []
    for label, wnid in enumerate(WNIDS):
        for file in sorted((val / wnid).iterdir()):
            file.rename(val / file.name)
            lines.append(f"{file.name} {label}")
        (val / wnid).rmdir()
    (root / "imagenet/val.txt").write_text("\n".join(lines))
    module = ready(root / "imagenet")
    assert torch.cat([y for _, y in module.test_dataloader()]).tolist() == [0, 0, 1, 1, 2, 2]
    for bad, words in (
        ("n01_0.JPEG", "line 7: expected 'name label'"),
        ("n01_0.JPEG 3", r"0\.\.2"),
        ("x.JPEG 0", "no .*x.JPEG"),
        (lines[0], "n01_0.JPEG is listed more than once"),
    ):
        (root / "imagenet/val.txt").write_text("\n".join([*lines, bad]))
        with pytest.raises(ValueError, match=words):
            ready(root)
    (root / "imagenet/val.txt").write_text("\n".join(lines[1:]))
    with pytest.raises(ValueError, match=r"n01_0\.JPEG is not in .*val\.txt, 1 images in all"):
        ready(root)
    (root / "imagenet/val.txt").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        ready(root)
    (root / "imagenet/val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no class folders and there is no list file .*val\.txt"):
        ready(root)


def test_missing_imagenet_explains_itself(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"looked for train/ and val/ in .*imagenet and .*image-net\.org.*profile=quick"
    ):
        ready(tmp_path)
    monkeypatch.delenv("DSD_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="needs a data folder and none is named"):
        ready(None)


def test_partly_present_imagenet_says_which_part(root):
    (root / "imagenet/train").rename(root / "elsewhere")
    with pytest.raises(
        FileNotFoundError, match=r"only partly there: .* has val/ but no train/, and training needs both"
    ):
        ready(root)
    assert ready(root, "test").test_size == 6
    with pytest.raises(RuntimeError, match="setup"):
        ready(root, "test").train_dataloader()
    (root / "imagenet/val").rename(root / "imagenet/train")
    with pytest.raises(FileNotFoundError, match="has train/ but no val/, and testing needs val/"):
        ready(root, "test")


def test_classes_that_do_not_fit_are_refused(root):
    with pytest.raises(ValueError, match=r"3 class folders for data\.num_classes=1000; unpack the missing ones"):
        ready(root, num_classes=1000)
    (root / "imagenet/val/n01").rename(root / "imagenet/val/n99")
    with pytest.raises(ValueError, match=r"n99 is not among the training classes, n01, n02, n03, .* move it away"):
        ready(root)
    (root / "imagenet/val/n99").rename(root / "imagenet/val/n01")
    (root / "imagenet/train/n00").mkdir()
    with pytest.raises(ValueError, match=r"n00 has no image files"):
        ready(root, num_classes=4)


def test_nothing_in_a_folder_is_passed_over(root):
    train = root / "imagenet/train"
    (train / ".cache").mkdir()
    assert ready(root).train_size == 18
    picture(train / "n01_8.JPEG")
    with pytest.raises(ValueError, match=r"train/n01_8\.JPEG lies beside the class folders, 1 in all"):
        ready(root)
    (train / "n01_8.JPEG").unlink()
    (train / "n03").rename(root / "n03")
    (train / "n03").mkdir()
    (root / "n03").rename(train / "n03/images")
    with pytest.raises(ValueError, match=r"n03 has no image files .* but a folder images: images lie directly"):
        ready(root)


def test_archives_are_to_be_unpacked(root):
    train = root / "imagenet/train"
    for wnid in WNIDS:
        (train / wnid).rename(root / wnid)
        (train / f"{wnid}.tar").touch()
    with pytest.raises(FileNotFoundError, match=r"n01\.tar is not unpacked, 3 archives in all.* tar xf"):
        ready(root)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_picture_is_named(root, workers):
    file = root / "imagenet/val/n02/n02_1.JPEG"
    file.write_bytes(file.read_bytes()[:300])
    module = ready(root, workers=workers)
    with pytest.raises(ValueError, match=r"^\S*n02_1\.JPEG is damaged or no image .*: unpack or fetch it again$"):
        list(module.test_dataloader())
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '\S*n02_1\.JPEG'$"):
        list(module.test_dataloader())
    module.teardown("test")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resize": 15}, "resize=15 must be at least size=16"),
        ({"augment": {"jitter": 2, "lighting": 0}}, "jitter"),
        ({"mean": [0.5], "std": [0.0]}, "std > 0"),
    ],
)
def test_bad_settings_are_refused(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        data(tmp_path, **change)


def test_centre_view_keeps_the_middle():
    image = Image.fromarray(np.tile(np.arange(60, dtype=np.uint8)[None, :, None], (40, 1, 3)))
    view = Centre(40, 20)(image, 0, 0)
    assert view.shape == (3, 20, 20)
    assert view[0, 0].tolist() == list(range(20, 40))
    assert Centre(33, 33)(image, 0, 0).shape == (3, 33, 33)


def test_random_boxes_lie_inside_and_have_the_asked_area_and_ratio():
    boxes = np.array([random_box(100, 80, random) for _ in range(2000)])
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 100
    assert boxes[:, 3].max() <= 80
    assert (w * h >= 0.07 * 8000).all()
    assert (np.abs(np.log(w / h)) < np.log(4 / 3) + 0.06).all()
    assert random_box(1000, 1, random) == (499, 0, 500, 1)


def test_random_views_depend_on_seed_epoch_and_number_only():
    image = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    view = RandomView(size=16, jitter=0.4, lighting=0.1, seed=0)
    base = view(image, 1, 2)
    assert (base == view(image, 1, 2)).all()
    others = [view(image, 2, 2), view(image, 1, 3), RandomView(size=16, jitter=0.4, lighting=0.1, seed=1)(image, 1, 2)]
    assert all((base != other).any() for other in others)
    assert RandomView(size=16, jitter=0.0, lighting=0.0, seed=0)(image, 1, 2).dtype == np.uint8


def test_caffes_crops_are_cut_out_of_a_square():
    image = Image.fromarray(np.tile(np.arange(60, dtype=np.uint8)[None, :, None], (20, 1, 3)))
    view = RandomView(size=20, jitter=0.0, lighting=0.0, seed=0, square=60)
    firsts = [view(image, 0, number)[0, 0] for number in range(1000)]
    steps = [np.diff(row.astype(int)) for row in firsts]
    assert {tuple(step.tolist()) for step in steps} == {(1,) * 19, (-1,) * 19}, (
        "not rescaled across, and mirrored or not"
    )
    assert {int(row.min()) for row in firsts} == set(range(41))
    with pytest.raises(ValueError, match="square=19 must be at least size=20"):
        RandomView(size=20, jitter=0.0, lighting=0.0, seed=0, square=19)


def test_lighting_is_one_colour_of_the_right_spread():
    shifts = [lit(np.zeros((3, 1, 1), np.float32), 0.1, random)[:, 0, 0] for _ in range(4000)]
    assert np.allclose(np.std(shifts, axis=0), 0.1 * 0.2175 * 255 * np.array([0.5675, 0.5808, 0.5836]), rtol=0.1)


def test_real_validation_images(data_root):
    folder = data_root / "imagenet/val"
    files = listing(folder, classes=class_folders(folder), num_classes=1000)
    assert len(files.names) == len(files.labels) > 0
    assert Centre(256, 224)(read(files.path(0)), 0, 0).shape == (3, 224, 224)
