import warnings
from functools import partial
from itertools import chain

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from dsd.data import Batches, ImageData, ImageSet, Order
from dsd.data.augment import Augment


def numbered(n=56, n_test=9, c=3, side=8):
    """Images whose first pixel is their own number, so that a batch says which images it is made of."""
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (n + n_test, c, side, side), dtype=np.uint8)
    x[:, :, 0, 0] = np.arange(n + n_test)[:, None]
    y = np.arange(n + n_test) % 4
    return ImageSet(x[:n], y[:n], x[n:], y[n:], tuple("abcd"), name="numbered")


class Source:
    def __init__(self, images=None):
        self.images, self.reads, self.downloads = images or numbered(), 0, 0

    def __call__(self, root):
        self.reads += 1
        return self.images

    def download(self, root):
        self.downloads += 1


DEFAULTS = {
    "batch_size": 8,
    "seed": 0,
    "validation": 0,
    "augment": None,
    "mean": [0.5],
    "std": [0.25],
    "channels": 3,
    "size": 8,
}


def data(**change):
    return ImageData(**{"source": Source()} | DEFAULTS | change)


def ready(**change):
    module = data(**change)
    module.setup()
    return module


def numbers(batches):
    return [number for images, _ in batches for number in images[:, 0, 0, 0].tolist()]


def test_training_validation_and_test_images_are_disjoint_and_complete():
    module = ready(validation=16)
    parts = [numbers(loader) for loader in (module.train_batches(), module.val_dataloader(), module.test_dataloader())]
    assert [len(part) for part in parts] == [module.train_size, module.val_size, module.test_size] == [40, 16, 9]
    assert sorted(chain.from_iterable(parts)) == list(range(65))
    assert sorted(parts[2]) == list(range(56, 65))
    labels = torch.cat([y for _, y in module.val_dataloader()])
    assert labels.dtype == torch.int64
    assert labels.bincount().tolist() == [4, 4, 4, 4]


def test_the_seed_never_moves_the_split_and_the_split_seed_does():
    held = [
        numbers(ready(validation=0.25, **change).val_dataloader()) for change in ({}, {"seed": 5}, {"split_seed": 1})
    ]
    assert held[0] == held[1] != held[2]
    assert len(held[0]) == 14


def test_a_subset_leaves_the_validation_set_as_it_is():
    whole, part = ready(validation=16), ready(validation=16, subset=10)
    assert part.train_size == 10
    assert numbers(whole.val_dataloader()) == numbers(part.val_dataloader())
    assert set(numbers(part.train_batches())) < set(numbers(whole.train_batches()))
    with pytest.raises(ValueError, match=r"subset=41: there are 1\.\.40"):
        ready(validation=16, subset=41)


def test_without_validation_there_is_no_validation_loader():
    assert ready().val_dataloader() == []


def test_setup_reads_once_and_prepare_data_downloads_only_when_asked():
    module = ready()
    module.setup("fit")
    module.setup("test")
    module.prepare_data()
    assert (module.source.reads, module.source.downloads) == (1, 0)
    asked = data(download=True)
    asked.prepare_data()
    assert (asked.source.reads, asked.source.downloads) == (0, 1)


def test_attributes_after_setup():
    module = ready(channels=None, size=12)
    assert (module.num_classes, module.channels, module.size, module.image_shape) == (4, 3, 12, (3, 12, 12))
    assert module.classes == tuple("abcd")


def test_batches_become_normalised_floats_after_the_transfer():
    module = ready(source=Source(numbered(c=1)), size=16)
    batch = next(iter(module.train_batches()))
    images, labels = module.on_after_batch_transfer(batch, 0)
    assert batch[0].dtype == torch.uint8
    assert images.shape == (8, 3, 16, 16)
    assert images.dtype == torch.float32
    assert torch.equal(images[:, 0], images[:, 2])
    assert labels is batch[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": 1, "mean": [0.5]}, "channels=1, but the images have 3"),
        ({"size": 4}, "never made smaller"),
        ({"mean": [0.1, 0.2], "std": [1, 1]}, "2 means for 3 channels"),
        ({"std": [0.0]}, "std > 0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"validation": 56}, "validation=56"),
        ({"num_classes": 5}, "has 4 classes, but data.num_classes=5"),
    ],
)
def test_what_does_not_fit_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        ready(**change)


def test_images_that_are_not_square_need_a_size():
    wide = Source(ImageSet(*[np.zeros((4, 3, 4, 6), np.uint8), np.arange(4)] * 2, tuple("abcd"), name="wide"))
    with pytest.raises(ValueError, match="4x6"):
        ready(source=wide, size=None)
    assert ready(source=wide, size=6).image_shape == (3, 6, 6)


def test_batches_need_setup():
    with pytest.raises(RuntimeError, match="setup"):
        data().train_batches()


def test_augmentation_depends_on_seed_epoch_batch_and_rank_only():
    images = np.random.default_rng(0).integers(0, 256, (12, 1, 8, 8), dtype=np.uint8)

    def run(seed=0, epoch=0, first=0, rank=0):
        order = Order(12, 3, seed=seed, first=first, rank=rank, world=2)
        order.set_epoch(epoch)
        return [x for x, _ in Batches(images, np.arange(12), order, augment=Augment(2, True))]

    base = run()
    assert all(torch.equal(a, b) for a, b in zip(base, run(), strict=True))
    assert torch.equal(base[1], run(first=1)[0])
    assert not torch.equal(base[0], run(seed=1)[0])
    assert not torch.equal(base[0], run(epoch=1)[0])
    assert not torch.equal(base[0], run(rank=1)[0])


def test_images_labels_and_order_must_agree():
    with pytest.raises(ValueError, match="2 images and 3 labels"):
        Batches(np.zeros((2, 1, 2, 2), np.uint8), np.zeros(3, np.int64), Order(3, 1, seed=0))


class Net(pl.LightningModule):
    """Learns, and remembers every training batch it was given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 4)
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.trainer.current_epoch, batch_idx, batch[0].clone(), batch[1].clone()))
        return nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch, batch_idx):
        self.layer(batch[0].flatten(1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class SaveAlways(pl.Callback):
    """Saves a checkpoint in each hook that checkpoints are made in, as `{hook}-{updates}.ckpt`."""

    def __init__(self, folder):
        for hook in ("on_train_batch_end", "on_validation_end", "on_train_epoch_end"):
            setattr(self, hook, partial(self._save, folder, hook))

    @staticmethod
    def _save(folder, hook, trainer, *_):
        trainer.save_checkpoint(folder / f"{hook}-{trainer.global_step}.ckpt")


LIMITS = {"epochs": {"max_epochs": 3}, "updates": {"max_epochs": -1, "max_steps": 13}}


def fit(limits, *, callbacks=(), ckpt_path=None):
    module = ready(validation=16, augment={"pad": 2, "flip": True})
    net = Net()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=list(callbacks), num_sanity_val_steps=0, **quiet, **LIMITS[limits]
    )
    trainer.fit(net, datamodule=module, ckpt_path=ckpt_path, weights_only=False)
    return net.seen


@pytest.fixture(scope="module", params=LIMITS)
def undisturbed(request, tmp_path_factory):
    """The limits of a run, all its batches, and the folder of the checkpoints that it made on its way."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
        return request.param, fit(request.param, callbacks=[SaveAlways(folder)]), folder


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # pytorch-lightning 2.6 on torch 2.14
@pytest.mark.parametrize(
    ("hook", "updates"),
    [
        ("on_train_batch_end", 2),
        ("on_train_batch_end", 7),  # inside of epoch 1
        ("on_train_batch_end", 5),  # the last batch of epoch 0
        ("on_validation_end", 5),
        ("on_train_epoch_end", 5),
        ("on_train_epoch_end", 10),
    ],
)
def test_a_resumed_run_sees_exactly_the_batches_of_an_undisturbed_one(undisturbed, hook, updates):
    limits, seen, folder = undisturbed
    resumed = fit(limits, ckpt_path=folder / f"{hook}-{updates}.ckpt")
    expected = seen[updates:]
    assert [(epoch, batch) for epoch, batch, *_ in resumed] == [(epoch, batch) for epoch, batch, *_ in expected]
    assert all(torch.equal(a[2], b[2]) and torch.equal(a[3], b[3]) for a, b in zip(resumed, expected, strict=True))
    assert len(seen) == {"epochs": 15, "updates": 13}[limits]


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_another_batch_size_cannot_continue_in_mid_epoch(undisturbed, monkeypatch):
    limits, _, folder = undisturbed
    monkeypatch.setitem(DEFAULTS, "batch_size", 10)
    with pytest.raises(ValueError, match="batch_size was 8, is 10"):
        fit(limits, ckpt_path=folder / "on_train_batch_end-7.ckpt")
