import pytest

from modeling_crh.data.benchmarks import load_benchmark
from modeling_crh.data.columns import label_tensor


def test_the_training_set_is_the_database_and_the_test_set_the_queries(idx_folder):
    splits = load_benchmark("fashion_mnist", idx_folder, validation_fraction=0.25)
    assert splits.num_rows == {"train": 30, "validation": 10, "query": 20, "database": 40}
    assert label_tensor(splits["validation"]).bincount().tolist() == [1] * 10


def test_a_folder_may_be_given_as_text(idx_folder):
    assert load_benchmark("fashion_mnist", str(idx_folder), validation_fraction=0.5)["train"].num_rows == 20


@pytest.mark.parametrize(
    ("name", "data_dir", "message"),
    [
        ("mnist", None, "`name` must be one of fashion_mnist, .*, but got 'mnist'"),
        ("fashion_mnist", "/no/such/folder", "`data_dir` must be a folder, but got '/no/such/folder'"),
    ],
)
def test_an_unknown_benchmark_or_folder_is_an_error(name, data_dir, message):
    with pytest.raises(ValueError, match=message):
        load_benchmark(name, data_dir)
