import numpy as np
import pytest
import torch

from modeling_crh.app.finder import Finder, folder_pictures
from modeling_crh.encoding import Encoder
from modeling_crh.images import read_image
from modeling_crh.search import HammingIndex


@pytest.fixture(scope="session")
def finder(index, checkpoint, image_root):
    return Finder(index, checkpoint, folder_pictures(image_root, index))


def test_an_image_has_the_code_that_the_index_holds_of_it(finder, index, image_root):
    query = finder.of_image(read_image(image_root / "07.png"))
    assert query.code.tolist() == index.packed[7].tolist()
    assert query.encoding > 0
    assert query.position is None


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (3, 3), (9, 1), (1, 20)])
def test_the_smallest_images_are_not_taken_for_others(finder, checkpoint, size):
    encoder = Encoder.load(checkpoint)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    inputs = encoder.processor(pixels, return_tensors="pt", input_data_format="channels_last")
    with torch.inference_mode():
        expected = encoder.model.encode(**inputs)
    assert np.unpackbits(finder.of_image(pixels).code).tolist() == (expected[0] > 0).int().tolist()


def test_words_have_the_code_of_a_model_of_texts_with_the_same_centers(finder, index, checkpoint, text_model):
    texts = Finder(index, checkpoint, text_model=text_model)
    words = texts.of_text("a dog ran")
    assert words.code.tolist() == Encoder.load(text_model).packed(["a dog ran"])[0].tolist()
    assert (words.title, words.position, words.picture.uri) == ("a dog ran", None, "")
    for asked, text in ((finder, "a dog ran"), *((texts, none) for none in (" ", None, ["a"]))):
        with pytest.raises(ValueError, match="There are no words to search by"):
            asked.of_text(text)
    with pytest.raises(ValueError, match="1,000 characters at"):
        texts.of_text("x" * 1001)


def test_a_model_must_read_images_and_one_of_texts_texts_by_the_same_centers(index, checkpoint, text_checkpoint):
    with pytest.raises(ValueError, match="`text_model` must read texts, but reads image"):
        Finder(index, checkpoint, text_model=checkpoint)
    with pytest.raises(ValueError, match="`model` must be the one that made the codes of the index"):
        Finder(index, checkpoint, text_model=str(text_checkpoint))
    texts = HammingIndex(index.packed, model=str(text_checkpoint))
    with pytest.raises(ValueError, match="`model` must read images, but reads text"):
        Finder(texts, str(text_checkpoint))


def test_a_search_is_that_of_the_index(finder, index):
    query = finder.of_item(7)
    answer = finder.search(query, 60, 64)
    found = {item.position: distance for item, distance in answer.hits}
    expected = np.unpackbits(index.packed ^ index.packed[7], axis=1).sum(1).tolist()
    assert [found[position] for position in range(60)] == expected
    assert [distance for _, distance in answer.hits] == sorted(expected)
    radius = sorted(expected)[20]
    near = finder.search(query, 60, radius).hits
    assert [distance for _, distance in near] == [distance for distance in sorted(expected) if distance <= radius]
    assert len(finder.search(query, 3, radius).hits) == 3


def test_an_uploaded_image_is_answered_by_its_hash_logits_and_within_a_radius_by_bits(finder, index, image_root):
    query = finder.of_image(read_image(image_root / "07.png"))
    answer = finder.search(query, 60, 64)
    codes = torch.from_numpy(np.unpackbits(index.packed, axis=1) * 2.0 - 1).float()
    scores = (codes @ query.logits)[[item.position for item, _ in answer.hits]]
    assert (scores[:-1] >= scores[1:] - 1e-4).all()
    distances = [distance for _, distance in answer.hits]
    assert distances != sorted(distances)
    near = finder.search(query, 60, 63)
    assert (answer.by_logits, near.by_logits, finder.search(finder.of_item(7), 5, 64).by_logits) == (True, False, False)
    assert [distance for _, distance in near.hits] == sorted(distance for distance in distances if distance <= 63)


def test_an_item_is_named_by_its_file_and_label_or_else_its_id(finder, index, checkpoint):
    (item,) = finder.items(np.array([7]))
    assert (item.position, item.name) == (7, "07.png")
    assert item.label == index.records([7])[0]["label"]
    assert finder.of_item(7).title == f"{item.label}, 07.png"
    assert item.picture.uri.startswith("data:image/png")
    assert finder.model_name == "fashion-mnist-64"  # without its folder
    bare = Finder(HammingIndex(index.packed, [f"id-{row}" for row in range(60)], model=checkpoint), checkpoint)
    (item,) = bare.items(np.array([3]))
    assert (item.name, item.label, item.picture.uri) == ("item id-3", "", "")
    several = HammingIndex(index.packed, labels=[["a", "b"]] * 60, model=checkpoint)
    assert Finder(several, checkpoint).items(np.array([3]))[0].label == "a, b"


@pytest.mark.parametrize("position", [-1, 60, None, "7", 7.0, [7], {"a": 1}, 10**30])
def test_a_position_that_is_none_gets_one_sentence(finder, position):
    with pytest.raises(ValueError, match=r"^There is no such image in the database\.$"):
        finder.of_item(position)
