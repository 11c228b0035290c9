import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from transformers import ResNetConfig, ResNetModel, ViTImageProcessor

from modeling_crh.data import load_splits, open_source, prepare_dataset
from modeling_crh.encoding import FeatureDataset, ImageDataset
from modeling_crh.encoding.feature_tables import extract_views, store_features, write_features
from modeling_crh.encoding.loading import load_backbone
from modeling_crh.runtime.atomic_files import only_run

PROCESSOR = ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True)
LABELS = ["cat", "dog", "cat", "bird"] * 2


@pytest.fixture
def split():
    pixels = np.random.default_rng(0).integers(0, 256, (len(LABELS), 16, 16, 3), dtype=np.uint8)
    return prepare_dataset(Dataset.from_dict({"image": [*map(PIL.Image.fromarray, pixels)], "label": LABELS}))


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])).eval()


def test_the_first_view_is_the_backbone_called_by_hand(backbone, split):
    views = extract_views(backbone, PROCESSOR, split, num_views=3, batch_size=3)
    pixels = torch.stack([item["pixel_values"] for item in ImageDataset(split, PROCESSOR)])
    with torch.no_grad():
        by_hand = backbone(pixels).pooler_output.flatten(1)
    assert views.shape == (8, 3, 16)
    assert torch.allclose(views[:, 0], by_hand, atol=1e-5)
    assert not torch.allclose(views[:, 1], views[:, 0], atol=1e-3)
    assert not torch.allclose(views[:, 2], views[:, 1], atol=1e-3)


def test_the_same_seed_gives_the_same_views(backbone, split):
    first, second, other = (extract_views(backbone, PROCESSOR, split, num_views=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    with pytest.raises(ValueError, match="`num_views` must be at least 1, but got 0"):
        extract_views(backbone, PROCESSOR, split, num_views=0)


@pytest.mark.parametrize("num_views", [1, 3])
def test_what_is_written_is_what_a_table_of_features_reads(num_views, split, tmp_path):
    features = torch.arange(8 * num_views * 5, dtype=torch.float32).view(8, num_views, 5)
    has_views = num_views > 1
    for name in ("train.parquet", "test.parquet"):
        assert write_features(features, split, tmp_path / name, has_views=has_views) == tmp_path / name
    assert {file.name for file in tmp_path.iterdir()} == {"train.parquet", "test.parquet"}
    query = load_splits(tmp_path, features_column="features", validation_fraction=0.5).splits["query"]
    items = FeatureDataset(query, first_view=True)
    assert items.label_names == ["bird", "cat", "dog"]
    assert [items.label_names[label] for label in items.labels] == LABELS
    assert torch.equal(items.inputs(range(8))["features"], features[:, 0])
    assert np.array_equal(np.array(query["features"]).reshape(8, num_views, 5), features)


def test_a_second_run_into_one_folder_is_refused_before_it_computes(backbone, split, tmp_path):
    parts = {"train": split, "query": split}
    with only_run(tmp_path / "features"):
        with pytest.raises(ValueError, match="`out` must be a folder that no other run writes to"):
            store_features(None, PROCESSOR, parts, tmp_path / "features")
    store_features(backbone, PROCESSOR, parts, tmp_path / "features")
    with pytest.raises(ValueError, match=r"`out` must be a new or empty folder, but '.*' holds 'test\.parquet'"):
        store_features(None, PROCESSOR, parts, tmp_path / "features")
    assert sorted(file.name for file in (tmp_path / "features").iterdir()) == ["test.parquet", "train.parquet"]


def test_a_crh_model_gives_its_backbone_and_a_folder_without_a_model_none(tiny_model, tiny_checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"`backbone` must be .* of a model of images, sounds or texts, but .* is not"):
        load_backbone(tmp_path)
    assert type(load_backbone(tiny_checkpoint)[0]).__name__ == "ViTModel"
    for option, value in (("tower", "vision"), ("pooling", "mean")):
        with pytest.raises(ValueError, match=f"it is a CRH model, whose `{option}` is chosen already"):
            load_backbone(tiny_checkpoint, **{option: value})
    tiny_model(None).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"`backbone` must be the folder .*, but .* is not: it reads stored features"):
        load_backbone(tmp_path)


def test_features_keep_the_ids_of_their_rows(crh, tiny_model, image_folder, tmp_path):
    files = sorted(image_folder.rglob("*.png"))[:6]
    rows = {"photo": [*map(str, files), "missing.png"], "kind": list("xyxyxyx"), "sku": [f"s{n}" for n in range(7)]}
    Dataset.from_dict(rows).to_csv(tmp_path / "t.csv")
    folder = tmp_path / "model"
    tiny_model("resnet").save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    options = ["--image-column", "photo", "--label-column", "kind", "--id-column", "sku", "--skip-bad"]
    code, _, errors = crh("features", folder, tmp_path / "t.csv", *options, "--out", tmp_path / "features")
    assert code == 0, errors
    (table,) = (tmp_path / "features").glob("*.parquet")
    assert pq.read_table(table)["id"].to_pylist() == [f"s{n}" for n in range(6)]
    assert open_source(str(table)).kind == "features"  # with no column named
