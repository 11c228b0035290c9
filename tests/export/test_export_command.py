import numpy as np
import onnxruntime
from tiny_commands import done, refusal
from transformers import ViTImageProcessor

from modeling_crh.export import onnx_export


def test_the_command_explains_itself_in_one_sentence(crh, tiny_checkpoint, tmp_path, monkeypatch):
    (tmp_path / "there.onnx").write_text("mine")
    (tmp_path / "empty").mkdir()
    new = tmp_path / "new.onnx"
    for options, sentence in [
        ([tiny_checkpoint, "--out", tmp_path / "there.onnx"], "`path` must be a new file in a folder that exists"),
        ([tiny_checkpoint, "--out", tmp_path / "no" / "m.onnx"], "`path` must be a new file in a folder that exists"),
        ([tmp_path / "no", "--out", new], "`checkpoint` must be a CRH model's folder"),
        ([tiny_checkpoint, "--out", new, "--precision", "int8", "--calibration", tmp_path / "empty"], "with images"),
    ]:
        ended = crh("export", *options)
        assert sentence in refusal(ended)
        assert ended[2].count("\n") == 1
    monkeypatch.setattr(onnx_export.os, "access", lambda path, mode: False)
    assert "may be written to" in refusal(crh("export", tiny_checkpoint, "--out", new))
    assert (tmp_path / "there.onnx").read_text() == "mine"
    assert not new.exists()


def test_the_command_writes_one_file_and_takes_ranges_from_a_folder_of_images(crh, tiny_model, image_folder, tmp_path):
    (tmp_path / "out").mkdir()
    tiny_model("resnet").save_pretrained(tmp_path / "tiny")
    ViTImageProcessor(size={"height": 16, "width": 16}, do_convert_rgb=True).save_pretrained(tmp_path / "tiny")
    file = tmp_path / "out" / "m.onnx"
    options = ["--precision", "int8", "--calibration", image_folder / "dark", "--json"]
    ended = crh("export", tmp_path / "tiny", "--to", "onnx", "--out", file, *options)
    summary = {"file": str(file), "format": "onnx", "precision": "int8", "num_bits": 16, "bytes": file.stat().st_size}
    assert (done(ended), ended[2]) == (summary, "")
    assert list(file.parent.iterdir()) == [file]
    session = onnxruntime.InferenceSession(file)
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["model"], metadata["precision"]) == ("tiny", "int8")
    images = np.zeros((3, 16, 16, 3), np.uint8)
    assert session.run(["packed"], {"images": images})[0].shape == (3, 2)
