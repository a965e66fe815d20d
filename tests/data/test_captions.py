"""Captioned pictures: the public layouts, what is missing, the vocabulary, features that are kept, the order of pairs."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from dsd.data import CaptionData, Flickr8k, Karpathy, Pixels, Precomputed, Scenes, Torchvision
from dsd.data.captions import Picture, words_of
from dsd.data.vocabulary import Vocabulary

PARTS = {"train": ["a", "b", "c"], "dev": ["d"], "test": ["e"]}


def jpeg(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), 10 * number, np.uint8)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def flickr(tmp_path):
    folder = tmp_path / "flickr8k"
    (folder / "Flicker8k_Dataset").mkdir(parents=True)
    lines = []
    for number, name in enumerate("abcde"):
        (folder / "Flicker8k_Dataset" / f"{name}.jpg").write_bytes(jpeg(number))
        lines += [f"{name}.jpg#{k}\tA Dog runs , the dog 's {name} ." for k in range(5)]
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    for part, names in PARTS.items():
        (folder / f"Flickr_8k.{part}Images.txt").write_text("".join(f"{name}.jpg\n" for name in names))
    return tmp_path


def data(root, tmp_path, **change):
    how = {"source": Flickr8k(), "extractor": Pixels(2), "batch_size": 4, "seed": 1, "min_count": 2}
    return CaptionData(**how | {"root": root, "cache": tmp_path / "cache"} | change)


def test_flickr8k_as_it_was_given_out(flickr, tmp_path):
    module = data(flickr, tmp_path)
    module.setup()
    assert (module.train_size, module.val_size, module.test_size) == (15, 1, 1)
    assert module.sizes == {"features": 12, "vocabulary": 1 + 7}
    assert module.picture("val", 0).sentences[0] == ("a", "dog", "runs", "the", "dog", "s", "d")
    features, words, pictures = next(iter(module.train_dataloader()))
    assert (features.shape, features.dtype, words.shape) == ((4, 12), torch.float32, (4, 7))
    assert torch.equal(features, torch.from_numpy(module._features["train"])[pictures])
    features, words, pictures = next(iter(module.val_dataloader()))
    assert (features.shape, words.shape, pictures.tolist()) == ((1, 12), (1, 5, 6), [0])  # "d" is no training word


def test_pictures_that_are_not_there_are_left_out(flickr, tmp_path):
    (flickr / "flickr8k" / "Flicker8k_Dataset" / "b.jpg").unlink()
    module = data(flickr, tmp_path)
    module.setup()
    assert module.train_size == 10
    assert [module.picture("train", n).name for n in range(2)] == ["a.jpg", "c.jpg"]


def test_what_is_missing_or_damaged_is_named(flickr, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"DSD_DATA=DIR .*data=embedded_captions"):
        Flickr8k()(None)
    with pytest.raises(FileNotFoundError, match=r"dataset\.json is not there"):
        Karpathy("flickr8k")(flickr)
    tokens = flickr / "flickr8k" / "Flickr8k.token.txt"
    tokens.write_text(tokens.read_text() + "no tab here\n")
    with pytest.raises(ValueError, match=r"line 26: expected NAME\.jpg#0"):
        Flickr8k()(flickr)
    for picture in (flickr / "flickr8k" / "Flicker8k_Dataset").iterdir():
        picture.unlink()
    tokens.write_text("\n".join(tokens.read_text().splitlines()[:-1]))
    with pytest.raises(FileNotFoundError, match="none of the 5 pictures is there"):
        data(flickr, tmp_path).setup()


@pytest.mark.parametrize(
    ("sentences", "told"),
    [
        ({"val": ("zebra",)}, "no sentence of the val part has a word that 2 training sentences have"),
        ({"test": None}, r"test\.jpg has no sentence"),
        (None, "the set has no pictures"),
    ],
    ids=["unknown words", "no sentence", "no pictures"],
)
def test_a_set_that_says_nothing_is_named(sentences, told, tmp_path):
    def source(root):
        pictures = (
            []
            if sentences is None
            else [(part, sentences.get(part, ("a", "dog"))) for part in ("train", "train", "val", "test")]
        )
        return [Picture(f"{part}.jpg", part, (said,) if said else (), lambda: jpeg(0)) for part, said in pictures]

    with pytest.raises(ValueError, match=told):
        data(tmp_path, tmp_path, source=source).setup()


def test_a_damaged_picture_is_named(flickr, tmp_path):
    path = flickr / "flickr8k" / "Flicker8k_Dataset" / "c.jpg"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"c\.jpg is no picture or damaged"):
        data(flickr, tmp_path).setup()


def karpathy(root, splits):
    images = [
        {"filename": f"{n}.jpg", "split": split, "sentences": [{"tokens": ["word", str(n)]}]}
        for n, split in enumerate(splits)
    ]
    (root / "coco").mkdir()
    (root / "coco" / "dataset.json").write_text(json.dumps({"images": images}))


def test_karpathys_splits_with_precomputed_features(tmp_path):
    karpathy(tmp_path, ["train", "restval", "val", "test"])
    feats = np.arange(12, dtype=np.float32).reshape(4, 3)
    savemat(tmp_path / "coco" / "vgg_feats.mat", {"feats": feats.T})
    np.save(tmp_path / "coco" / "feats.npy", feats)
    for name in ("vgg_feats.mat", "feats.npy"):
        module = data(tmp_path, tmp_path, source=Karpathy("coco"), extractor=Precomputed(f"coco/{name}"), min_count=1)
        module.setup()
        assert (module.train_size, module.sizes["features"]) == (2, 3)
        assert np.array_equal(module._features["val"], feats[2:3])
    np.save(tmp_path / "coco" / "feats.npy", feats[:3])
    with pytest.raises(ValueError, match="the set has 4 pictures"):
        data(tmp_path, tmp_path, source=Karpathy("coco"), extractor=Precomputed("coco/feats.npy")).setup()
    (tmp_path / "other").mkdir()
    karpathy(tmp_path / "other", ["train", "val"])
    np.save(tmp_path / "other" / "two.npy", feats[:2])
    with pytest.raises(ValueError, match="no picture of the test part"):
        data(
            tmp_path / "other", tmp_path, source=Karpathy("coco"), extractor=Precomputed("two.npy"), min_count=1
        ).setup()
    (tmp_path / "coco" / "dataset.json").write_text("[]")
    with pytest.raises(ValueError, match=r"is not a dataset\.json"):
        Karpathy("coco")(tmp_path)


def test_features_are_computed_once_and_again_if_something_changed(flickr, tmp_path, monkeypatch):
    calls = []
    compute = Pixels.compute
    monkeypatch.setattr(Pixels, "compute", lambda self, pictures: calls.append(1) or compute(self, pictures))
    data(flickr, tmp_path).setup()
    data(flickr, tmp_path).setup()
    assert len(calls) == 1
    (kept,) = (tmp_path / "cache").glob("features-*.npy")
    kept.write_bytes(kept.read_bytes()[:50])
    data(flickr, tmp_path).setup()
    assert len(calls) == 2, "a damaged file is made again"
    data(flickr, tmp_path, extractor=Pixels(3)).setup()
    (flickr / "flickr8k" / "Flicker8k_Dataset" / "a.jpg").write_bytes(jpeg(9))
    data(flickr, tmp_path).setup()
    assert len(calls) == 4, "other pixels, other pictures"


def test_a_cnns_features(flickr, tmp_path):
    extractor = Torchvision(name="squeezenet1_1", weights=None, node="features.2", size=64, resize=64)
    module = data(flickr, tmp_path, extractor=extractor)
    module.setup()
    assert module.sizes["features"] == 64 * 15 * 15
    assert not np.array_equal(module._features["train"][0], module._features["train"][1])


def test_the_order_is_a_function_of_seed_and_epoch(tmp_path):
    def pairs(seed):
        module = data(None, tmp_path, source=Scenes(6, 2, 2), seed=seed)
        module.setup()
        return [batch[1].tolist() for batch in module.train_dataloader()]

    assert pairs(1) == pairs(1)
    assert pairs(1) != pairs(2)


def test_scenes_are_the_same_every_time_and_differ_from_each_other():
    first, second = Scenes(5, 2, 2)(None), Scenes(5, 2, 2)(None)
    assert [p.sentences for p in first] == [p.sentences for p in second]
    assert [p.content() for p in first] == [p.content() for p in second]
    assert len({p.content() for p in first}) == 9


def test_words():
    assert words_of("A man 's  T-shirt , wow !") == ("a", "man", "s", "tshirt", "wow")
    vocabulary = Vocabulary.of([["b", "a", "b"], ["c", "a"]], min_count=2)
    assert (vocabulary.words, vocabulary.counts) == (("<end>", "a", "b"), (2, 2, 2))
    assert vocabulary.numbers_of(["b", "z", "a"]) == [2, 1]
    assert vocabulary.words_of([2, 1]) == ["b", "a"]
    with pytest.raises(ValueError, match=r"lower data\.min_count"):
        Vocabulary.of([["a"]], min_count=2)
