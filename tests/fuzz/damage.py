"""Damage for the tests of this folder: strategies of changed bytes and of unexpected values."""

import re

import pytest
from hypothesis import settings
from hypothesis import strategies as st

BUDGET = settings(max_examples=60, derandomize=True, deadline=None, database=None)

_EDITS = st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255), st.sampled_from("set cut insert end".split())))

UNEXPECTED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1000, 1000)
    | st.integers(min_value=10**8)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
"""Values of JSON."""


def damaged(contents):
    """Bytes of one of these files with some changes."""
    return st.builds(_damage, st.sampled_from(contents), _EDITS)


def _damage(content, edits):
    data = bytearray(content)
    for place, byte, way in edits[:4]:
        start = place % (len(data) + 1)
        if way == "set":
            data[start : start + 1] = bytes([byte])
        elif way == "cut":
            del data[start : start + byte % 16]
        elif way == "insert":
            data[start:start] = bytes([byte]) * (byte % 16)
        else:
            del data[start:]
    return bytes(data)


def end_of(call, *arguments, **settings):
    """What a call gives; or None where it refuses with a sentence that names what is wrong."""
    try:
        return call(*arguments, **settings)
    except ValueError as error:
        if not re.search(r"`[^`]+`", str(error)):
            pytest.fail(f"a sentence must name an argument, but this is: {error}")
        return None
