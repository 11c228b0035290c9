import numpy as np
import PIL.Image
import pytest
import torch
from accelerate import Accelerator
from datasets import ClassLabel, Dataset, Features
from torch.utils.data import DataLoader
from transformers import BitImageProcessor, ConvNextImageProcessor, ViTImageProcessor

from modeling_crh.data.columns import canonical_features
from modeling_crh.encoding.items import PRESETS, Augmentation, ImageDataset, TrainTransform
from modeling_crh.encoding.labelled_items import sample_draws

PROCESSOR = ViTImageProcessor(size={"height": 32, "width": 32}, do_convert_rgb=True)
CROPPING = BitImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, do_convert_rgb=True)
LABELS = Dataset.from_dict({"label": [0]}, Features(label=ClassLabel(names=["a", "b"])))
BOLD = Augmentation(padding=0.2, flip=0.5, jitter=0.3, erasing=0.5)


def pixels_by_hand(dataset, processor=PROCESSOR):
    return processor(list(dataset["image"]), return_tensors="pt")["pixel_values"]


def rgb_of(row):
    return torch.tensor(np.asarray(row["image"])).expand(3, -1, -1)


def pixels_of(dataset, epoch=0):
    dataset.set_epoch(epoch)
    return [dataset[row]["pixel_values"] for row in range(len(dataset))]


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
@pytest.mark.parametrize(
    "processor",
    [PROCESSOR, CROPPING, ConvNextImageProcessor(size={"shortest_edge": 32}, do_convert_rgb=True)],
)
def test_without_augmentation_the_pixels_are_those_of_the_image_processor(gray_dataset, processor, cache_bytes):
    dataset = gray_dataset()
    samples = ImageDataset(dataset, processor, cache_bytes=cache_bytes).__getitems__(range(12))
    got = torch.stack([sample["pixel_values"] for sample in samples])
    assert torch.equal(got, pixels_by_hand(dataset, processor))


def test_augmentation_is_drawn_by_seed_epoch_and_row_and_comes_before_the_image_processor(gray_dataset):
    dataset = gray_dataset()
    images = ImageDataset(dataset, PROCESSOR, augment="light", seed=7)
    images.set_epoch(3)
    augmented = TrainTransform(PRESETS["light"], (32, 32))(rgb_of(dataset[5]), sample_draws(7, 3, 5))
    assert torch.equal(images[5]["pixel_values"], PROCESSOR(augmented, return_tensors="pt")["pixel_values"][0])


def test_a_cut_out_is_resized_once(gray_dataset):
    augment, dataset = Augmentation(min_area=0.3), gray_dataset()
    cut_out = TrainTransform(augment, (32, 32))(rgb_of(dataset[4]), sample_draws(0, 0, 4))
    normalized = CROPPING(cut_out, return_tensors="pt", do_resize=False, do_center_crop=False)["pixel_values"][0]
    assert torch.equal(ImageDataset(dataset, CROPPING, augment=augment)[4]["pixel_values"], normalized)
    assert CROPPING.do_resize


@pytest.mark.parametrize("cache_bytes", [0, 2**20])
def test_the_augmentation_of_a_sample_depends_on_neither_order_batch_nor_worker(gray_dataset, cache_bytes):
    images = ImageDataset(gray_dataset(), PROCESSOR, augment=BOLD, cache_bytes=cache_bytes)
    alone = torch.stack(pixels_of(images))
    torch.manual_seed(1)
    assert all(torch.equal(images[row]["pixel_values"], alone[row]) for row in reversed(range(12)))
    for batch_size, num_workers in [(5, 0), (12, 0), (5, 2)]:
        batches = DataLoader(images, batch_size=batch_size, num_workers=num_workers)
        assert torch.equal(torch.cat([batch["pixel_values"] for batch in batches]), alone)


def test_accelerate_sets_the_epoch_and_workers_that_outlive_it_see_it(gray_dataset):
    images = ImageDataset(gray_dataset(), PROCESSOR, augment=BOLD)
    expected = [torch.stack(pixels_of(images, epoch)) for epoch in range(2)]
    images.set_epoch(0)
    loader = Accelerator(cpu=True).prepare(DataLoader(images, 4, num_workers=1, persistent_workers=True))
    epochs = [torch.cat([batch["pixel_values"] for batch in loader]) for _ in range(2)]
    assert torch.equal(epochs[0], expected[0])
    assert torch.equal(epochs[1], expected[1])


def two_images(folder, write_image):
    """An image of 8 x 10 pixels and one of 10 x 8."""
    files = [write_image(folder / "wide.png"), write_image(folder / "late.png")]
    PIL.Image.open(files[1]).transpose(PIL.Image.Transpose.ROTATE_90).save(files[1])
    return Dataset.from_dict({"image": list(map(str, files)), "label": [0, 1]}, features=canonical_features(["a", "b"]))


def test_images_of_different_sizes_are_decoded_when_they_are_asked_for(tmp_path, write_image):
    images = ImageDataset(two_images(tmp_path, write_image), PROCESSOR, cache_bytes=0)
    path = tmp_path / "late.png"
    path.write_bytes(path.read_bytes()[:60])
    assert images[0]["pixel_values"].shape == (3, 32, 32)
    with pytest.raises(ValueError, match=r"but .*late\.png is not"):
        images[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augment": "heavy"}, "`augment` must be an Augmentation or one of none, light, standard, but got 'heavy'"),
        ({"augment": None}, "`augment` must be an Augmentation or one of none, light, standard, but got None"),
        ({"augment": ["light"]}, r"`augment` must be an Augmentation or one of .*, but got \['light'\]"),
        ({"seed": -1}, "`seed` must be a whole number, 0 or larger, but got -1"),
        ({"seed": 1.5}, "`seed` must be a whole number, 0 or larger, but got 1.5"),
        ({"dataset": LABELS}, r"`dataset` must have a column `image` of images, but has None"),
        ({"dataset": LABELS.add_column("image", [7])}, r"a column `image` of images, but has Value\('int64'\)"),
    ],
)
def test_a_setting_or_a_column_that_does_not_exist_is_an_error(gray_dataset, settings, message):
    with pytest.raises(ValueError, match=message):
        ImageDataset(**{"dataset": gray_dataset(), "image_processor": PROCESSOR} | settings)


def test_images_of_different_sizes_need_a_processor_that_resizes(tmp_path, write_image):
    images = ImageDataset(two_images(tmp_path, write_image), ViTImageProcessor(do_resize=False, do_convert_rgb=True))
    with pytest.raises(ValueError, match="`image_processor` must make pixels of one size, but cannot"):
        images.__getitems__([0, 1])


@pytest.mark.parametrize("settings", [{"size": {"height": -1, "width": -1}}, {"resample": 99}, {"rescale_factor": "x"}])
@pytest.mark.parametrize("augment", ["none", "standard"])
def test_a_processor_that_cannot_work_fails_before_training(gray_dataset, settings, augment):
    with pytest.raises((RuntimeError, KeyError, TypeError)):  # errors of the libraries below, as they are
        ImageDataset(gray_dataset(), ViTImageProcessor(do_convert_rgb=True, **settings), augment=augment)
