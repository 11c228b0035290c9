import io

import numpy as np
import PIL.Image
import pytest

from modeling_crh.data.benchmarks.official_files import encode_png, require_images


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
@pytest.mark.parametrize("optimize", [False, True])
def test_gray_and_colour_come_back_unchanged(shape, optimize):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    decoded = PIL.Image.open(io.BytesIO(encode_png(pixels, optimize=optimize)))
    assert np.array_equal(np.asarray(decoded), pixels)


def test_missing_and_empty_images_are_counted_and_the_first_is_named(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    images = [tmp_path / name for name in "abc"]
    require_images(images)
    (tmp_path / "b").unlink()
    with pytest.raises(FileNotFoundError, match=r"hold every annotated image, but .*b is missing or empty"):
        require_images(images)
    (tmp_path / "c").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"but .*b and 1 more are missing or empty"):
        require_images(images)
