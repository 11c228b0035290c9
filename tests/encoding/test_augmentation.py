from itertools import product

import numpy as np
import pytest
import torch

from modeling_crh.encoding.items import PRESETS, Augmentation, TrainTransform
from modeling_crh.encoding.labelled_items import NUM_DRAWS, sample_draws


def random_image(height=28, width=28):
    return torch.randint(1, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def draws_of(values=()):
    """Draws of 0.5, except for those that are given by their slot, such as `{6: 0.1}`."""
    draws = np.full(NUM_DRAWS, 0.5)
    for slot, value in dict(values).items():
        draws[slot] = value
    return draws


def test_draws_never_change_and_differ_by_seed_epoch_and_sample():
    assert sample_draws(0, 0, 0)[:3].round(6).tolist() == [0.011547, 0.241549, 0.111426]
    assert sample_draws(3, 2, 1)[:3].round(6).tolist() == [0.571492, 0.704039, 0.385589]
    assert len({sample_draws(*case).tobytes() for case in product(range(3), repeat=3)}) == 27


def test_draws_are_uniform_and_uncorrelated_between_neighbouring_samples():
    draws = np.stack([sample_draws(0, 0, index) for index in range(4000)])
    assert np.abs(draws.mean(0) - 0.5).max() < 0.02
    assert np.abs(draws.var(0) - 1 / 12).max() < 0.006
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.05


def test_no_setting_is_no_change():
    image = random_image()
    assert torch.equal(TrainTransform(Augmentation(), (28, 28))(image, sample_draws(0, 0, 0)), image)


def test_a_flip_happens_below_its_probability():
    image, transform = random_image(), TrainTransform(Augmentation(flip=0.4), (28, 28))
    assert torch.equal(transform(image, draws_of({6: 0.39})), image.flip(-1))
    assert torch.equal(transform(image, draws_of({6: 0.4})), image)


def test_padding_shifts_by_whole_pixels_and_fills_with_black():
    image, transform = random_image(20, 30), TrainTransform(Augmentation(padding=0.1), (20, 30))
    shifted = transform(image, draws_of({0: 0.0, 1: 0.999}))  # 2 rows down, 3 columns to the left
    assert torch.equal(shifted, torch.nn.functional.pad(image[:, :-2, 3:], (0, 3, 2, 0)))
    assert torch.equal(transform(image, draws_of()), image)


def test_every_shift_is_equally_likely():
    image, transform = random_image(10, 10), TrainTransform(Augmentation(padding=0.1), (10, 10))
    tops = [int((transform(image, draws_of({0: draw}))[0, :, 5] == 0).nonzero().numel()) for draw in (0.1, 0.5, 0.9)]
    assert tops == [1, 0, 1]


def test_a_cut_out_has_the_asked_size_and_lies_within_the_image():
    image = torch.full((3, 40, 60), 200, dtype=torch.uint8)
    transform = TrainTransform(Augmentation(min_area=0.2), (24, 24))
    for index in range(50):
        assert torch.equal(transform(image, sample_draws(0, 0, index)), torch.full((3, 24, 24), 200, dtype=torch.uint8))


def test_a_cut_out_of_the_full_area_is_the_whole_image():
    image = random_image(24, 24)
    transform = TrainTransform(Augmentation(min_area=0.2), (24, 24))
    assert torch.equal(transform(image, draws_of({2: 1.0})), image)


def test_erasing_blackens_a_share_of_the_area():
    image, transform = random_image(100, 100), TrainTransform(Augmentation(erasing=1.0), (100, 100))
    erased = [float((transform(image, sample_draws(0, 0, index)) == 0).float().mean()) for index in range(100)]
    assert 0.015 < min(erased) < 0.04
    assert 0.18 < max(erased) < 0.21


def test_jitter_scales_the_brightness():
    image, transform = torch.full((3, 4, 4), 100, dtype=torch.uint8), TrainTransform(Augmentation(jitter=0.2), (4, 4))
    assert transform(image, draws_of()).unique().tolist() == [100]
    assert transform(image, draws_of({7: 0.0})).unique().tolist() == [80]


def test_one_setting_does_not_change_the_draws_of_another():
    image, draws = random_image(), sample_draws(0, 0, 5)
    shifted = TrainTransform(Augmentation(padding=0.1), (28, 28))(image, draws)
    both = TrainTransform(Augmentation(padding=0.1, flip=1.0), (28, 28))(image, draws)
    assert torch.equal(both, shifted.flip(-1))


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_changes_its_input(preset):
    image = random_image()
    TrainTransform(PRESETS[preset], (32, 32))(image, sample_draws(0, 0, 1))
    assert torch.equal(image, random_image())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": 1.5}, "`flip` must be a number from 0 to 1, but got 1.5"),
        ({"padding": -0.1}, "`padding` must be a number from 0 to 1, but got -0.1"),
        ({"jitter": float("nan")}, "`jitter` must be a number from 0 to 1, but got nan"),
        ({"flip": "x"}, "`flip` must be a number from 0 to 1, but got 'x'"),
        ({"padding": None}, "`padding` must be a number from 0 to 1, but got None"),
        ({"erasing": [1]}, r"`erasing` must be a number from 0 to 1, but got \[1\]"),
        ({"flip": True}, "`flip` must be a number from 0 to 1, but got True"),
        ({"min_area": 0.0}, "`min_area` must be above 0"),
    ],
)
def test_a_setting_out_of_range_is_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)
