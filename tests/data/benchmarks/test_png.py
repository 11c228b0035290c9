import io

import numpy as np
import PIL.Image
import pytest

from modeling_crh.data.benchmarks.official_files import encode_png


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
@pytest.mark.parametrize("optimize", [False, True])
def test_gray_and_colour_come_back_unchanged(shape, optimize):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    decoded = PIL.Image.open(io.BytesIO(encode_png(pixels, optimize=optimize)))
    assert np.array_equal(np.asarray(decoded), pixels)
