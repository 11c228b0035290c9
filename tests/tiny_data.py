"""Small data of the forms that users have, and one way to read them as every command does."""

import io
import tarfile
from pathlib import Path

import numpy as np
import PIL.Image
import soundfile

from modeling_crh.data import DataSource, label_names, label_tensor, open_source, read_parts

CLASSES = ("cat", "dog", "eel")


def picture(label, number, size=16):
    """A picture whose hue tells its class, and which differs from all others."""
    pixels = np.random.default_rng(1000 * label + number).integers(0, 60, (size, size, 3))
    pixels[:, :, label % 3] += 180
    return PIL.Image.fromarray(pixels.astype(np.uint8))


def image_bytes(image, image_format="PNG", **settings):
    buffer = io.BytesIO()
    image.save(buffer, image_format, **settings)
    return buffer.getvalue()


def write_pictures(root, count=4, classes=CLASSES):
    """A folder with a sub-folder of pictures for each class; gives their paths, sorted."""
    files = [Path(root, name, f"{number:02d}.png") for name in classes for number in range(count)]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number // count, number % count).save(file)
    return files


def sound(label, number=0, rate=8000, seconds=0.2, channels=1):
    """Samples `(T, channels)` of a tone whose pitch tells its class, with a noise that differs from all others."""
    time = np.arange(int(rate * seconds)) / rate
    noise = np.random.default_rng(1000 * label + number).normal(0, 0.02, (len(time), channels))
    return (0.5 * np.sin(2 * np.pi * 300 * 2**label * time)[:, None] + noise).astype(np.float32)


def sound_bytes(samples, rate=8000, sound_format="WAV", **settings):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=sound_format, **settings)
    return buffer.getvalue()


def write_sounds(root, count=4, classes=CLASSES, suffix="wav"):
    """A folder with a sub-folder of tones for each class; gives their paths, sorted."""
    files = [Path(root, name, f"{number:02d}.{suffix}") for name in classes for number in range(count)]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        content = sound(number // count, number % count, seconds=0.2 + 0.05 * (number % 3))
        file.write_bytes(sound_bytes(content, sound_format=suffix.upper()))
    return files


def write_tar(path, samples):
    """Write samples, each a content by suffix, as a WebDataset tar."""
    with tarfile.open(path, "w") as tar:
        for number, sample in enumerate(samples):
            for suffix, content in sample.items():
                info = tarfile.TarInfo(f"{number:04d}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def read_both(dataset, **options):
    """Labels of all rows by name, as `crh encode` reads them, after a check that training reads the same ones."""
    encoded = [row.label for row in open_source(dataset, **options).rows()]
    parts, _ = read_parts(DataSource(dataset=dataset, **options))
    trained = []
    for part in parts.values():
        names, labels = label_names(part), label_tensor(part)
        if labels.ndim == 2:
            trained += [sorted(names[number] for number in row.nonzero().flatten()) for row in labels]
        else:
            trained += [names[number] if number >= 0 else None for number in labels.tolist()]
    assert trained == [sorted(label) if isinstance(label, list) else label for label in encoded]
    return encoded
