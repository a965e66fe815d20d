import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dsd.data.augment import Augment, fill_value, to_input

random_images = np.random.default_rng(0).integers(0, 256, (64, 3, 8, 6), dtype=np.uint8)


@given(st.integers(0, 3), st.booleans(), st.integers(0, 3))
def test_every_image_is_a_window_of_its_padded_self_or_its_mirror(pad, flip, seed):
    augment = Augment(pad, flip or pad == 0)
    fill = np.array([1, 2, 3], dtype=np.uint8)
    before = random_images.copy()
    out = augment(random_images, np.random.default_rng(seed), fill_C=fill)
    assert (random_images == before).all()
    assert out.shape == random_images.shape
    assert out.dtype == np.uint8
    for image, result in zip(random_images, out, strict=True):
        frame = np.stack([np.pad(c, pad, constant_values=f) for c, f in zip(image, fill, strict=True)])
        windows = [frame[:, y : y + 8, x : x + 6] for y in range(2 * pad + 1) for x in range(2 * pad + 1)]
        candidates = [view for window in windows for view in (window, window[..., ::-1])[: 1 + augment.flip]]
        assert any((result == view).all() for view in candidates)


def test_offsets_and_flips_are_uniform():
    marker = np.zeros((20000, 1, 3, 3), dtype=np.uint8)
    marker[:, 0, 1, 1] = 1
    out = Augment(1, False)(marker, np.random.default_rng(0), fill_C=np.zeros(1, dtype=np.uint8))
    assert np.abs(out.mean(axis=0) * 9 - 1).max() < 0.1
    marker[:] = np.array([0, 0, 1], dtype=np.uint8)
    mirrored = Augment(0, True)(marker, np.random.default_rng(0), fill_C=np.zeros(1, dtype=np.uint8))[:, 0, 0, 0]
    assert abs(mirrored.mean() - 0.5) < 0.02


@pytest.mark.parametrize(("change", "words"), [((-1, True), "pad must be"), ((0, False), "does nothing")])
def test_useless_augmentation_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        Augment(*change)


def test_fill_is_the_mean_pixel():
    assert fill_value((125.3 / 255, 123.0 / 255, 113.9 / 255), 3).tolist() == [125, 123, 114]
    assert fill_value((0.5,), 3).tolist() == [128, 128, 128]


def test_mnist_pixels_become_pixels_over_256():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    out = to_input(pixels, mean=[0.0], std=[256 / 255], channels=1, size=(16, 16))
    assert torch.equal(out, pixels.float() / 256)


def test_normalised_per_channel_repeated_and_enlarged():
    pixels = torch.full((2, 1, 4, 4), 51, dtype=torch.uint8)
    out = to_input(pixels, mean=[0.0, 0.1, 0.2], std=[1.0, 0.5, 0.1], channels=3, size=(9, 9))
    assert out.shape == (2, 3, 9, 9)
    torch.testing.assert_close(out[0, :, 4, 4], torch.tensor([0.2, 0.2, 0.0]))
    ramp = torch.tensor([[[[0, 100]]]], dtype=torch.uint8).expand(1, 1, 2, 2)
    wide = to_input(ramp, mean=[0.0], std=[1 / 255], channels=1, size=(4, 4))
    torch.testing.assert_close(wide[0, 0, 0], torch.tensor([0.0, 25.0, 75.0, 100.0]))


def test_floats_are_not_normalised_twice():
    with pytest.raises(TypeError, match="float32"):
        to_input(torch.zeros(1, 1, 2, 2), mean=[0.0], std=[1.0], channels=1, size=(2, 2))
