import json

import numpy as np
import onnxruntime

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
        code, output, errors = crh("export", *options)
        assert (code, output) == (2, "")
        assert sentence in errors
        assert errors.count("\n") == 1
    monkeypatch.setattr(onnx_export.os, "access", lambda path, mode: False)
    code, _, errors = crh("export", tiny_checkpoint, "--out", new)
    assert (code, "may be written to" in errors) == (2, True)
    assert (tmp_path / "there.onnx").read_text() == "mine"
    assert not new.exists()


def test_the_command_writes_one_file_and_takes_ranges_from_a_folder_of_images(
    crh, tiny_checkpoint, image_folder, tmp_path
):
    file = tmp_path / "m.onnx"
    options = ["--precision", "int8", "--calibration", image_folder, "--json"]
    code, output, errors = crh("export", tiny_checkpoint, "--to", "onnx", "--out", file, *options)
    assert (code, errors) == (0, "")
    assert list(tmp_path.iterdir()) == [file]
    summary = {"file": str(file), "format": "onnx", "precision": "int8", "num_bits": 16, "bytes": file.stat().st_size}
    assert json.loads(output) == summary
    session = onnxruntime.InferenceSession(file)
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["model"], metadata["precision"]) == (tiny_checkpoint.name, "int8")
    images = np.zeros((3, 16, 16, 3), np.uint8)
    assert session.run(["packed"], {"images": images})[0].shape == (3, 2)
