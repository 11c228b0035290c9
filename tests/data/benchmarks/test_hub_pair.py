import pytest
from datasets import ClassLabel, Dataset, Features, Image

from modeling_crh.data.benchmarks.official_files import load_hub_pair


@pytest.fixture
def replica(hub_replica, png):
    names = ClassLabel(names=["couch", "cra"])

    def split(labels):
        features = Features({"img": Image(), "kind": names})
        return Dataset.from_dict({"img": [png(label) for label in labels], "kind": labels}, features=features)

    return hub_replica(train=split([0, 1, 1]), test=split([1, 0]))


def test_both_splits_get_the_canonical_columns(replica):
    train, test = load_hub_pair(replica, image_column="img", label_column="kind")
    assert train.features == test.features
    assert train.features["label"] == ClassLabel(names=["couch", "cra"])
    assert (train[:]["label"], test[:]["label"]) == ([0, 1, 1], [1, 0])
    assert train[1]["image"].getpixel((0, 0)) == (1, 1, 1)


def test_official_names_replace_those_on_the_hub_by_their_ids(replica):
    train, test = load_hub_pair(replica, image_column="img", label_column="kind", label_names=["couch", "crab"])
    assert train.features["label"] == test.features["label"] == ClassLabel(names=["couch", "crab"])
    assert (train[:]["label"], test[:]["label"]) == ([0, 1, 1], [1, 0])


def test_a_column_that_is_not_there_is_an_error(replica):
    with pytest.raises(ValueError, match=r"`label_column` must be one of \['img', 'kind'\], but got 'label'"):
        load_hub_pair(replica, image_column="img")
