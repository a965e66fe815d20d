import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsd.data import Arrays, ImageSet
from dsd.data.arrays import as_pixels

x = np.random.default_rng(0).integers(0, 256, (20, 5, 6, 3), dtype=np.uint8)
y = np.arange(20) % 4


def write(path, **arrays):
    np.savez(path, **arrays)
    return Arrays(path=str(path))


def test_an_npz_with_its_own_test_images(tmp_path):
    images = write(tmp_path / "a.npz", x_train=x[:15], y_train=y[:15].astype(np.uint8), x_test=x[15:], y_test=y[15:])(
        None
    )
    assert (images.train_images == x[:15].transpose(0, 3, 1, 2)).all()
    assert images.train_images.flags.c_contiguous
    assert images.train_labels.dtype == np.int64
    assert images.test_labels.tolist() == y[15:].tolist()
    assert images.classes == ("0", "1", "2", "3")


def test_one_npz_or_two_npy_files_are_split_alike(tmp_path):
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    one = Arrays(path="a.npz", test_fraction=0.2)(tmp_path)
    two = Arrays(images="x.npy", labels="y.npy", test_fraction=0.2)(tmp_path)
    assert (one.test_images == two.test_images).all()
    assert sorted(one.test_labels.tolist()) == [0, 1, 2, 3]
    assert len(one.train_images) == 16


def test_names_are_looked_up_in_the_working_folder_first(tmp_path, monkeypatch):
    (tmp_path / "root").mkdir()
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", x=x, y=y)
    np.savez("root/a.npz", x=x[:10], y=y[:10])
    source = Arrays(path="a.npz", test_fraction=0.5)
    assert len(source(tmp_path / "root").train_images) == 10
    (tmp_path / "a.npz").unlink()
    assert len(source(tmp_path / "root").train_images) == 5


@given(st.integers(4, 9), st.integers(4, 9), st.sampled_from([1, 3]))
def test_every_layout_becomes_channels_first(h, w, c):
    images = np.arange(2 * c * h * w, dtype=np.uint8).reshape(2, c, h, w)
    assert (as_pixels(images, "x") == images).all()
    assert (as_pixels(images.transpose(0, 2, 3, 1), "x") == images).all()
    assert (as_pixels(images[:, 0], "x") == images[:, :1]).all()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((2, 4, 4)), "float64: images must be uint8"),
        (np.zeros((2, 3, 4, 3), np.uint8), "exactly one"),
        (np.zeros((2, 4, 4, 4), np.uint8), "exactly one"),
        (np.zeros((2, 784), np.uint8), r"shape \(2, 784\)"),
    ],
)
def test_unclear_images_are_refused(array, words):
    with pytest.raises(ValueError, match=words):
        as_pixels(array, "x")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": x}, r"found x$"),
        ({"x": x, "y": y}, "data.source.test_fraction"),
        ({"x": x, "y": y[:5]}, "20 images and 5 labels"),
        ({"x": x, "y": y[:, None]}, r"y of .*int64 \(20, 1\): labels must be integers \(n,\)"),
        ({"x": x, "y": y / 1}, "float64"),
        ({"x": x, "y": np.eye(4, dtype=int)[y]}, r"int64 \(20, 4\): .* y\.argmax\(1\)"),
        ({"x_train": x, "y_train": y, "x_test": x, "y_test": y + 1}, r"test labels must be in 0\.\.3, found 1\.\.4"),
        ({"x_train": x, "y_train": y - 1, "x_test": x, "y_test": y}, r"training labels .* found -1"),
        ({"x_train": x, "y_train": y, "x_test": x[:, :4], "y_test": y}, "differ in shape"),
        ({"x_train": x, "y_train": y[:9], "x_test": x, "y_test": y}, "20 training images need as many"),
        ({"x_train": x, "y_train": y, "x_test": x[:0], "y_test": y[:0]}, "test images must be"),
        ({"x": np.array([{}]), "y": y}, "Python objects"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, arrays, words):
    with pytest.raises(ValueError, match=words) as info:
        write(tmp_path / "bad.npz", **arrays)(None)
    assert str(tmp_path / "bad.npz") in str(info.value)


def test_labels_that_leave_classes_out_are_told(tmp_path):
    with pytest.warns(UserWarning, match=r"gaps\.npz: 5 of 9 classes have no training image \(1, 3, 5, 6, 7\)"):
        write(tmp_path / "gaps.npz", x_train=x, y_train=np.resize([0, 2, 4, 8], 20), x_test=x, y_test=y * 0)(None)


def test_a_truncated_file_and_a_file_of_another_kind(tmp_path):
    source = write(tmp_path / "a.npz", x=x, y=y)
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"a\.npz can't be read"):
        source(None)
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.npz can't be read"):
        source(None)
    np.save(tmp_path / "b.npy", x)
    with pytest.raises(ValueError, match="holds one array"):
        Arrays(path=str(tmp_path / "b.npy"))(None)
    write(tmp_path / "c.npz", x=x)
    with pytest.raises(ValueError, match=r"is an \.npz file"):
        Arrays(images=str(tmp_path / "c.npz"), labels=str(tmp_path / "b.npy"))(None)


def test_missing_files_say_where_was_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"looked for .*nowhere\.npz and .*nowhere\.npz"):
        Arrays(path="nowhere.npz")(tmp_path)


@pytest.mark.parametrize("files", [{}, {"images": "x"}, {"path": "a", "labels": "y"}])
def test_half_a_description_is_refused(files):
    with pytest.raises(ValueError, match=r"data\.source\.path=FILE\.npz, or both"):
        Arrays(**files)


def test_own_files_are_not_downloaded():
    with pytest.raises(ValueError, match="not offered"):
        Arrays(path="a").download(None)


def test_image_sets_know_their_name():
    with pytest.raises(ValueError, match=r"here: training images must be uint8 \(n, c, h, w\), found float32"):
        ImageSet(np.zeros((1, 1, 2, 2), np.float32), y[:1], x, y, ("a",), name="here")
