import copy
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import PIL.Image
import pytest
import torch
from packaging.version import Version
from tiny_backbones import save_dual_encoder, word_tokenizer
from tiny_inputs import assert_same_state
from transformers import BitImageProcessor, GPT2Config, MobileViTImageProcessor, ViTImageProcessor

import modeling_crh
from modeling_crh import CRHModel
from modeling_crh.codes import binarize, pack_codes
from modeling_crh.data import load_benchmark
from modeling_crh.encoding import Encoder, labelled_dataset, load_checkpoint
from modeling_crh.encoding.inputs import load_processor
from modeling_crh.encoding.loading import find_revision
from modeling_crh.export import export_onnx, onnx_export
from modeling_crh.export.graph import CodesGraph
from modeling_crh.pipeline_crh import tokenize
from modeling_crh.processors import fit_processor

SHIPPED = Path(modeling_crh.__file__).parent / "checkpoints" / "fashion-mnist-64"
GUIDE = Path(__file__).parents[2] / "docs" / "export.md"
PROCESSOR = ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True)
UNEVEN = BitImageProcessor(size={"shortest_edge": 8}, do_center_crop=False)
LARGER = ["gpt2", "clip", "siglip"]
NEAR_ZERO = 1e-5  # of logits of about 10, in float32


@pytest.fixture(scope="module")
def shipped_file(tmp_path_factory):
    model, processor = load_checkpoint(SHIPPED)
    file = tmp_path_factory.mktemp("export") / "shipped.onnx"
    return export_onnx(model, file, processor=processor, model_name="org/fashion-64")


def run_file(file, **inputs):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(["packed"], {name: np.asarray(values) for name, values in inputs.items()})[0]


def metadata_of(file):
    return onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map


def assert_codes_of(packed, hash_logits):
    assert packed.dtype == np.uint8
    assert packed.shape == (len(hash_logits), hash_logits.shape[1] // 8)
    differs = np.unpackbits(packed, axis=1).astype(bool) != (hash_logits >= 0).numpy()
    assert (hash_logits[torch.from_numpy(differs)].abs() < NEAR_ZERO).all()


def logits_of(model, **inputs):
    with torch.inference_mode():
        return model(**inputs).hash_logits


def random_images(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (size, 16, 16, 3), dtype=np.uint8)


def processed(images, processor=PROCESSOR):
    return processor([torch.from_numpy(image).permute(2, 0, 1) for image in images], return_tensors="pt")


def test_signs_and_bits_are_where_they_are_by_hand(tiny_model, tmp_path):
    model = tiny_model(None, num_bits=8)
    model.hash_head.weight.data = torch.kron(torch.eye(4), torch.tensor([[1.0], [-1.0]]))
    model.hash_head.bias.data.zero_()
    features = np.array([[1, -2, 1e-30, -0.0], [-1, 2, -1e-30, 3], [0, 0, 0, np.nan]], np.float32)
    # signs of the logits: + - | - + | + - | 0 0, then - + | + - | - + | + -; of NaN none
    packed = run_file(export_onnx(model, tmp_path / "m.onnx"), features=features)
    assert packed.tolist() == [[0b10011011], [0b01100110], [0]]


@pytest.mark.parametrize(
    ("name", "pixel_values"), [("vit", False), ("resnet", True), pytest.param("dinov2", False, marks=pytest.mark.slow)]
)
def test_codes_of_images_or_of_their_pixels_are_those_of_the_model(
    tiny_model, tiny_backbone, tmp_path, name, pixel_values
):
    backbone = tiny_backbone(name)
    backbone.initializer_range = 0.5
    model = tiny_model(backbone, num_bits=64, initializer_range=1.0)
    file = export_onnx(model, tmp_path / "m.onnx", processor=PROCESSOR, pixel_values=pixel_values)
    for size in (1, 2, 40):
        images = random_images(size, seed=size)
        pixels = processed(images)
        hash_logits = logits_of(model, **pixels)
        assert_codes_of(run_file(file, **(pixels if pixel_values else {"images": images})), hash_logits)
    assert len((hash_logits >= 0).unique(dim=0)) > 30


OF_TEXTS = pytest.mark.skipif(Version(torch.__version__) < Version("2.11"), reason="it exports no model of texts")


@pytest.mark.parametrize(
    "kind", [pytest.param("bert", marks=OF_TEXTS), *(pytest.param(kind, marks=pytest.mark.slow) for kind in LARGER)]
)
def test_codes_of_texts_are_those_of_the_encoder_whatever_their_length(tiny_model, text_checkpoint, tmp_path, kind):
    if kind == "bert":
        model, tokenizer = load_checkpoint(text_checkpoint)
    elif kind == "gpt2":
        model = tiny_model(GPT2Config(vocab_size=20, n_positions=16, n_embd=16, n_layer=2, n_head=2))
        tokenizer = fit_processor(word_tokenizer(), model)
    else:
        folder = save_dual_encoder(tmp_path / kind, kind)
        model = CRHModel.from_backbone(str(folder), tower="text", num_labels=3, num_bits=16)
        tokenizer = load_processor(folder, model)
    file = export_onnx(model, tmp_path / "texts.onnx", processor=tokenizer)
    for texts in (["the cat sat"], ["a cat", "the dog ran under the tree and slept", "mat"]):
        inputs = tokenize(tokenizer, texts)
        assert (inputs.keys() == {"input_ids"}) == (kind == "siglip")
        read = {name: values.numpy() for name, values in inputs.items() if name != "token_type_ids"}
        assert_codes_of(run_file(file, **read), Encoder(model, tokenizer).hash_logits(texts))


def test_the_shipped_checkpoint_gives_the_same_codes_of_the_bundled_images(shipped_file):
    model, processor = load_checkpoint(SHIPPED)
    query = load_benchmark("fashion_mnist_sample")["query"].select(range(200))
    images = CodesGraph(model, processor).read_images(list(query["image"]), processor)
    pixels = labelled_dataset(query, processor).inputs(range(200))
    assert_codes_of(run_file(shipped_file, **images), logits_of(model, **pixels))


def test_a_file_says_what_it_is_and_nothing_of_where_it_was_made(shipped_file):
    settings = json.loads((SHIPPED / "preprocessor_config.json").read_text())
    metadata = metadata_of(shipped_file)
    assert json.loads(metadata.pop("image_processor")) == settings
    assert metadata == {
        "model": "org/fashion-64",
        "revision": find_revision(str(SHIPPED)),
        "num_bits": "64",
        "precision": "float32",
        "image_size": "[80, 80]",
        "image_mean": "[0.286, 0.286, 0.286]",
        "image_std": "[0.353, 0.353, 0.353]",
    }
    for trace in (b"site-packages", b".py", str(SHIPPED).encode()):
        assert trace not in shipped_file.read_bytes()


def test_the_example_of_the_guide_serves_codes_without_torch(shipped_file, tmp_path):
    example = re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL).group(1)
    shutil.copy(shipped_file, tmp_path / "model.onnx")
    images = list(load_benchmark("fashion_mnist_sample")["query"].select(range(2))["image"])
    for name, image in zip("ab", images, strict=True):
        image.save(tmp_path / f"{name}.png")
    blocked = "import sys\nsys.modules.update(torch=None, torchvision=None, transformers=None, modeling_crh=None)\n"
    ended = subprocess.run([sys.executable, "-c", blocked + example], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    model, processor = load_checkpoint(SHIPPED)
    packed = pack_codes(binarize(logits_of(model, **processor(images, return_tensors="pt")))).numpy()
    assert ended.stdout.strip() == str([code.tobytes().hex() for code in packed])


def test_a_model_of_the_hub_is_named_with_its_revision(tiny_model, tmp_path, monkeypatch):
    model = tiny_model(None)
    model.config._name_or_path = "org/name"
    cached = str(tmp_path / "snapshots" / "0f3a" / "config.json")
    monkeypatch.setattr("modeling_crh.encoding.loading.try_to_load_from_cache", lambda name, file: cached)
    metadata = metadata_of(export_onnx(model, tmp_path / "m.onnx"))
    assert metadata == {"model": "org/name", "revision": "0f3a", "num_bits": "16", "precision": "float32"}


def test_the_model_stays_as_it_is(tiny_model, tmp_path):
    model = tiny_model(None, hash_head="mlp", hash_head_dropout=0.5).to(torch.bfloat16).train()
    model.hash_head[1].eval()
    before = copy.deepcopy(model)
    export_onnx(model, tmp_path / "m.onnx")
    assert [part.training for part in model.modules()] == [part.training for part in before.modules()]
    assert_same_state(model, before)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_weights_in_half_the_bytes_give_the_codes_of_weights_rounded_to_them(tiny_model, tmp_path, precision):
    model = tiny_model(None, num_bits=64, hash_head="mlp", hash_head_hidden_size=256, initializer_range=1.0)
    file = export_onnx(model, tmp_path / "m.onnx", precision=precision)
    assert file.stat().st_size < 0.6 * 4 * model.num_parameters()
    for weights in model.hash_head.parameters():
        if weights.ndim > 1:
            weights.data = weights.data.to(getattr(torch, precision)).float()
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    assert_codes_of(run_file(file, features=features), logits_of(model, features=features))


@pytest.mark.parametrize("calibrated", [True, False])
def test_int8_leaves_the_last_layer_in_float_and_most_bits_as_they_are(tiny_model, tmp_path, calibrated):
    model = tiny_model("resnet", num_bits=64, initializer_range=1.0)
    images = random_images(40)
    calibration = [PIL.Image.fromarray(image) for image in random_images(40, seed=1)] if calibrated else None
    file = export_onnx(model, tmp_path / "m.onnx", processor=PROCESSOR, precision="int8", calibration=calibration)
    operators = [node.op_type for node in onnx.load(file).graph.node]
    assert ("QuantizeLinear" in operators, "ConvInteger" in operators) == (calibrated, not calibrated)
    assert {"Gemm", "MatMul"} & set(operators)
    packed, expected = run_file(file, images=images), logits_of(model, **processed(images)) >= 0
    assert (np.unpackbits(packed, axis=1).astype(bool) == expected.numpy()).mean() > 0.95
    if calibrated:
        assert np.array_equal(run_file(file, images=images[7:8]), packed[7:8])


@pytest.mark.parametrize(
    "processor",
    [
        ViTImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.4, 0.5, 0.6]),
        ViTImageProcessor(size={"height": 16, "width": 16}, do_rescale=False),
        BitImageProcessor(size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16}),
    ],
)
def test_the_graph_normalizes_to_the_very_pixels_of_the_processor(tiny_model, processor):
    model = tiny_model("resnet", initializer_range=1.0)
    photos = [PIL.Image.fromarray(np.tile(image, (3, 2, 1))) for image in random_images(4)]
    graph = CodesGraph(model, processor)
    images = torch.from_numpy(graph.read_images(photos, processor)["images"])
    assert images.shape == (4, 16, 16, 3)
    with torch.inference_mode():
        assert torch.equal(graph.hash_logits(images), logits_of(model, **processor(photos, return_tensors="pt")))


def test_a_processor_that_does_more_than_normalize_is_left_to_do_it(tiny_model):
    size = {"height": 16, "width": 16}
    swapping = MobileViTImageProcessor(size={"shortest_edge": 16}, crop_size=size, do_flip_channel_order=True)
    with pytest.raises(ValueError, match=r"no more than resize, crop and normalize .* reads `pixel_values`"):
        CodesGraph(tiny_model("vit"), swapping)
    assert CodesGraph(tiny_model("vit"), swapping, pixel_values=True).input_names == ["pixel_values"]


def test_a_file_with_other_codes_is_not_written(tiny_model, tmp_path, monkeypatch):
    other = onnx_export._trace(CodesGraph(tiny_model(None, seed=1, initializer_range=1.0)))
    monkeypatch.setattr(onnx_export, "_trace", lambda graph: other)
    with pytest.raises(ValueError, match="`model` must give the same codes under onnxruntime"):
        export_onnx(tiny_model(None, initializer_range=1.0), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("backbone", "arguments", "message"),
    [
        (None, {"precision": "int4"}, "`precision` must be one of float32, .*, but got 'int4'"),
        (None, {"precision": "int8"}, "`precision` must not be 'int8' for this model, which has no layer but"),
        (None, {"precision": "int8", "calibration": []}, "`calibration` must be images, .* but got 0 for 'int8'"),
        ("vit", {"processor": PROCESSOR, "calibration": ["a.png"]}, "`calibration` must be .* got 1 for 'float32'"),
        ("vit", {}, "`processor` must be the model's image processor, but got NoneType"),
        ("vit", {"processor": UNEVEN}, "`processor` must make all images the same size, but makes"),
        (None, {"pixel_values": True}, "`pixel_values` must be False for a model that reads `features`, but is True"),
    ],
)
def test_arguments_that_break_their_rule_are_errors(tiny_model, tmp_path, backbone, arguments, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(tiny_model(backbone), tmp_path / "m.onnx", **arguments)
    assert not list(tmp_path.iterdir())


def test_what_is_no_model_too_large_or_beyond_float16_is_refused(tiny_model, tmp_path, monkeypatch):
    model = tiny_model(None)
    with pytest.raises(ValueError, match="`model` must be a CRHModel, but got Linear"):
        export_onnx(torch.nn.Linear(2, 8), tmp_path / "m.onnx")
    model.hash_head.weight.data[0, 0] = 1e6
    with pytest.raises(ValueError, match="another than 'float16', which does not hold all weights"):
        export_onnx(model, tmp_path / "m.onnx", precision="float16")
    monkeypatch.setattr(onnx_export, "_MOST_WEIGHTS", 10)
    with pytest.raises(ValueError, match="`model` must have fewer than 10 weights, but has 80"):
        export_onnx(model, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
