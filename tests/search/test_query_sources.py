import numpy as np
import pytest
import torch

from modeling_crh.encoding.loading import load_checkpoint
from modeling_crh.pipeline_crh import CRHPipeline
from modeling_crh.search import HammingIndex
from modeling_crh.search.queries import (
    QuerySource,
    check_model,
    encode_queries,
    find_queries,
    query_logits,
    text_queries,
)


def test_what_is_there_as_a_file_is_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_queries(["00fF"], 16)[0].code.tolist() == [0, 255]
    (tmp_path / "00fF").write_bytes(b"")
    (source,) = find_queries(["00fF"], 16)
    assert (source.code, source.image.name) == (None, "00fF")


@pytest.mark.parametrize("query", ["", "00f", "00ff0", "00fg", "0x00", " 00ff", "nowhere.png", "long" * 2000])
def test_anything_else_is_an_error(query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="`query` must be an image file, a folder of images or a code of 4 hexa"):
        find_queries([query], 16)


def test_images_and_codes_are_encoded_in_their_order_as_the_pipeline_does(tiny_checkpoint, image_folder):
    model, processor = load_checkpoint(tiny_checkpoint)
    files = [str(image_folder / "dark" / "03.png"), str(image_folder / "bright" / "01.png")]
    packed = encode_queries(find_queries([files[0], "00ff", files[1]], 16), 16, model, processor)
    pipeline = CRHPipeline(model=model, image_processor=processor)
    expected = [output["code"] for output in pipeline(files)]
    np.testing.assert_array_equal(packed, [expected[0], [0, 255], expected[1]])


def test_a_model_that_does_not_fit_is_an_error(tiny_checkpoint, tiny_model, image_folder):
    sources = find_queries([str(image_folder / "dark" / "03.png")], 32)
    model, processor = load_checkpoint(tiny_checkpoint)
    with pytest.raises(ValueError, match="`model` must make codes of 32 bits, as the index holds, but makes 16"):
        encode_queries(sources, 32, model, processor)
    with pytest.raises(ValueError, match="`model` must read images, but reads `features`"):
        encode_queries(sources, 16, tiny_model(None), None)


def test_a_query_that_is_no_image_is_an_error(tiny_checkpoint, tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ValueError, match=r"`image` must be a complete image, but .*a\.png is not"):
        encode_queries([QuerySource("a", image=tmp_path / "a.png")], 16, *load_checkpoint(tiny_checkpoint))


def test_an_index_without_a_model_is_searched_by_codes_only():
    index = HammingIndex(np.zeros((1, 2), np.uint8))
    with pytest.raises(ValueError, match="`index` must name the model of its codes to be searched by 'org/model'"):
        check_model(index, "org/model")
    check_model(HammingIndex(np.zeros((1, 2), np.uint8), model="org/model"), "org/model")


def test_encoding_leaves_no_gradient(tiny_checkpoint, image_folder):
    model, processor = load_checkpoint(tiny_checkpoint)
    encode_queries(find_queries([str(image_folder / "dark" / "03.png")], 16), 16, model, processor)
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_texts_are_encoded_as_the_pipeline_does(text_checkpoint):
    model, tokenizer = load_checkpoint(text_checkpoint)
    texts = ["the cat sat on the mat", "a dog ran", "a dog ran " * 40]
    packed = encode_queries(text_queries(texts), 64, model, tokenizer)
    pipeline = CRHPipeline(model=model, tokenizer=tokenizer)
    np.testing.assert_array_equal(packed, [output["code"] for output in pipeline(texts)])
    assert len(np.unique(packed, axis=0)) == 3


def test_images_and_texts_go_to_a_model_that_reads_them(tiny_checkpoint, text_checkpoint, image_folder):
    images, texts = find_queries([str(image_folder / "dark" / "03.png")], 64), text_queries(["a cat"])
    with pytest.raises(ValueError, match="`model` must read images, but reads `input_ids`"):
        encode_queries(images, 64, *load_checkpoint(text_checkpoint))
    with pytest.raises(ValueError, match="`model` must read texts, but reads `pixel_values`"):
        encode_queries(texts, 16, *load_checkpoint(tiny_checkpoint))
    with pytest.raises(ValueError, match="`model` must be given to search by a text, such as 'a cat'"):
        encode_queries(texts, 16)
    with pytest.raises(ValueError, match="`text` must hold a word, but got ' '"):
        text_queries(["a cat", " "])


def test_hash_logits_have_the_signs_of_the_codes_and_a_code_has_none(tiny_checkpoint, image_folder):
    checkpoint = load_checkpoint(tiny_checkpoint)
    sources = find_queries([str(image_folder / "dark")], 16)
    logits = query_logits(sources, 16, *checkpoint)
    np.testing.assert_array_equal(np.packbits(logits.numpy() >= 0, axis=1), encode_queries(sources, 16, *checkpoint))
    with pytest.raises(
        ValueError, match="`query` must be an image or a text to have hash logits, but '00ff' is a code"
    ):
        query_logits([*sources, *find_queries(["00ff"], 16)], 16, *checkpoint)
