import contextlib
import pickle

import numpy as np
import pytest

from modeling_crh.data.benchmarks.official_files import load_plain_pickle

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_arrays_and_plain_data_are_read_as_python_two_wrote_them(python_two_pickle):
    plain = {"labels": [3, 1, 2], "name": "b\xe9", "nested": {"x": [1.5, None, True, (1, 2)]}}
    content = python_two_pickle({"data": ARRAY, **plain})
    assert b"numpy.core.multiarray" in content
    read = load_plain_pickle(content, "batch")
    assert np.array_equal(read.pop("data"), ARRAY)
    assert read == plain


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_are_read_in_either_order_of_memory(order, protocol):
    content = pickle.dumps({"data": np.asarray(ARRAY, order=order)}, protocol=protocol)
    assert np.array_equal(load_plain_pickle(content, "batch")["data"], ARRAY)


NAMES = [
    ("os", "system"),
    ("posix", "system"),
    ("subprocess", "check_call"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("builtins", "open"),
    ("__builtin__", "eval"),
    ("pickle", "loads"),
    ("copyreg", "_reconstructor"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    ("torch.storage", "_load_from_bytes"),
    ("numpy", "load"),
    ("numpy", "fromfile"),
    ("numpy", "float64"),
    ("numpy", "ndarray.tofile"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.multiarray", "fromfile"),
    ("numpy.lib.npyio", "load"),
    ("numpy.testing._private.utils", "runstring"),
    ("modeling_crh.data.benchmarks.official_files", "pickle.loads"),
]


def by_reduce(module, name, argument):
    return f"c{module}\n{name}\n(V{argument}\ntR."


def by_instance(module, name, argument):
    return f"(V{argument}\ni{module}\n{name}\n."


def by_object(module, name, argument):
    return f"(c{module}\n{name}\nV{argument}\no."


def by_stack(module, name, argument):
    return f"V{module}\nV{name}\n\x93(V{argument}\ntR."


@pytest.mark.parametrize("write", [by_reduce, by_instance, by_object, by_stack])
@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_other_name_is_refused_and_nothing_is_called(tmp_path, module, name, write):
    made = tmp_path / "made"
    argument = f"open('{made}', 'w')" if name in ("eval", "exec") else f"touch {made}"
    content = write(module, name, argument).encode("latin-1")
    mapped = "os|builtins|copyreg|posix"  # names of Python 2 are translated first
    with pytest.raises(ValueError, match=rf"not: it names ({module}|{mapped})\.{name}"):
        load_plain_pickle(content, "batch")
    assert not made.exists()


def test_a_refused_name_deep_inside_is_found():
    with pytest.raises(ValueError, match=r"it names builtins\.print"):
        load_plain_pickle(pickle.dumps({"data": ARRAY, "labels": [[{"x": (1, print)}]]}), "batch")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "batch must be a pickle of plain data, but is not: "),
        (b"plain text", "batch must be a pickle"),
        (pickle.dumps([1]), "it holds list, not a dictionary"),
        (pickle.dumps({"data": ARRAY}, protocol=3)[:-9], "batch must be a pickle"),
        (pickle.dumps({"data": ARRAY.astype("f4")}, protocol=3), "array of type 'f4', not of unsigned bytes"),
        (pickle.dumps({"data": ARRAY.astype("O")}, protocol=3), "array of type 'O8', not of unsigned bytes"),
        (pickle.dumps({"data": ARRAY}, protocol=3).replace(b"K\x03K\x04\x86", b"K\x05K\x04\x86"), "cannot reshape"),
        (b"}X\x01\x00\x00\x00acnumpy.core.multiarray\n_reconstruct\n)Rs.", "no attribute 'value'"),
        (b"\x80\x02\x82\x01.", "unregistered extension code 1"),
        (b"Psomewhere\n.", "persistent"),
    ],
)
def test_anything_else_is_an_error(content, message):
    with pytest.raises(ValueError, match=message):
        load_plain_pickle(content, "batch")


def test_damage_never_raises_anything_but_a_value_error(python_two_pickle):
    generator = np.random.default_rng(0)
    whole = python_two_pickle({"data": ARRAY, "labels": [1, 2, 3]})
    for _ in range(2000):
        damaged = bytearray(whole[: generator.integers(1, len(whole) + 1)])
        damaged[generator.integers(len(damaged))] = generator.integers(256)
        with contextlib.suppress(ValueError):
            load_plain_pickle(bytes(damaged), "batch")
