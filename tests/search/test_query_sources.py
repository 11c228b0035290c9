import numpy as np
import pytest
import torch

from modeling_crh.checkpoint import load_checkpoint
from modeling_crh.pipeline_crh import CRHPipeline
from modeling_crh.search import HammingIndex
from modeling_crh.search.query_sources import QuerySource, check_model, encode_queries, find_queries


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
