import re

import numpy as np
import pytest

from modeling_crh.app.search_page import bit_pattern

STATES = {"one": (1, 0), "zero": (0, 0), "other-one": (1, 1), "other-zero": (0, 1)}


def read_back(svg):
    """Bits, and whether they are marked, from the squares of a drawing."""
    width = int(re.search(r'viewBox="0 0 (\d+) ', svg)[1])
    cells = {}
    for name, path in re.findall(r'<path class="([\w-]+)" d="([^"]+)"', svg):
        for left, top in re.findall(r"M(\d+) (\d+)", path):
            cells[int(top) // 8, int(left) // 8] = STATES[name]
    columns = (width + 1) // 8
    assert sorted(cells) == [(number // columns, number % columns) for number in range(len(cells))]
    found = np.array([cells[place] for place in sorted(cells)])
    return found[:, 0], found[:, 1]


def test_a_code_by_hand():
    bits, marked = read_back(bit_pattern(np.array([0b10000001], np.uint8), np.array([0b10000000], np.uint8)))
    assert bits.tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    assert marked.tolist() == [0, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("num_bits", [8, 16, 24, 32, 48, 64, 128, 256, 1024])
def test_every_bit_is_drawn_and_marked_where_it_differs(num_bits):
    generator = np.random.default_rng(num_bits)
    code, query = generator.integers(0, 256, (2, num_bits // 8), np.uint8)
    bits, marked = read_back(bit_pattern(code, query))
    assert np.array_equal(bits, np.unpackbits(code))
    assert np.array_equal(marked, np.unpackbits(code ^ query))
    assert not read_back(bit_pattern(code))[1].any()


def test_it_says_in_words_what_it_shows():
    code = np.array([0b11000000, 0], np.uint8)
    assert 'aria-label="Code of 16 bits: c000"' in bit_pattern(code)
    assert 'aria-label="No bit differs"' in bit_pattern(code, code)
    assert 'aria-label="1 bit differs: 2"' in bit_pattern(code, np.array([0b10000000, 0], np.uint8))
    assert 'aria-label="2 bits differ: 1, 16"' in bit_pattern(code, np.array([0b01000000, 1], np.uint8))
