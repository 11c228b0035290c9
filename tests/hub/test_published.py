import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tiny_commands import done, refusal
from tiny_shards import open_shards, packed
from transformers import AutoModel, ViTImageProcessor

from modeling_crh import CRHModel
from modeling_crh.data import BadRow, Row
from modeling_crh.hub.published_codes import push_codes, write_public_codes

MADE_BY = {"num_bits": "16", "model": "/home/ada/run"}


def write_codes(folder, paths, metadata=None):
    folder.mkdir(exist_ok=True)
    columns = {"id": pa.array(range(len(paths)), pa.int64()), "path": pa.array(paths, pa.string())}
    columns["code"] = pa.array([bytes([row, 255]) for row in range(len(paths))], pa.binary(2))
    table = pa.table(columns | {"label": ["a"] * len(paths)}, metadata=metadata or MADE_BY)
    pq.write_table(table, folder / "codes-00000.parquet")
    return folder


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setattr("modeling_crh.hub.push.HfApi", lambda **_: pytest.fail("it asks the Hub"))


@pytest.mark.usefixtures("no_hub")
def test_a_dry_run_shows_what_a_model_would_publish(crh, tiny_checkpoint, tmp_path):
    run = shutil.copytree(tiny_checkpoint, tmp_path / "of-ada" / "run")
    recipe = {"dataset": str(tmp_path / "of-ada"), "training": {"learning_rate": 0.25, "run_name": "of-ada"}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (run / "contact_sheet.png").write_bytes(b"picture")
    output = done(crh("push", run, "ada/cars", "--license", "mit", "--dry-run"))
    shown = ["Model ada/cars would have", "model.safetensors", "modeling_crh.py", "# cars", "license: mit"]
    assert [text for text in [*shown, "learning_rate: 0.25"] if text not in output] == []
    assert "of-ada" not in output
    assert "contact_sheet" not in output
    assert "contact_sheet.png" in done(crh("push", run, "ada/cars", "--with-pictures", "--dry-run"))


@pytest.mark.usefixtures("no_hub")
def test_an_example_for_the_widget_is_published_only_when_given(crh, tiny_checkpoint, text_checkpoint, image_folder):
    example = image_folder / "dark" / "00.png"
    push = ["push", tiny_checkpoint, "ada/cars", "--dry-run"]
    assert "widget" not in done(crh(*push))
    assert "widget:\n- src: example.png" in done(crh(*push, "--example", example))
    for options, message in (
        ([text_checkpoint, "ada/texts"], "`example` must be left out for a model that reads `input_ids`."),
        ([tiny_checkpoint, "ada/codes", "--type", "dataset"], "`example` must be given with a model only"),
    ):
        assert message in refusal(crh("push", *options, "--example", example, "--dry-run"))


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("metadata", ["license: [", "- mit", "license: !!python/object/apply:os.system [x]"])
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_card_of_a_person_with_damaged_metadata_ends_a_push_before_it_begins(
    metadata, options, crh, tiny_checkpoint, tmp_path
):
    run = shutil.copytree(tiny_checkpoint, tmp_path / "run")
    (run / "README.md").write_text(f"---\n{metadata}\n---\nMy cars.\n")
    said = refusal(crh("push", run, "ada/cars", *options))
    assert "Error: `README.md` must begin with a mapping in YAML or none, but does not: " in said


@pytest.mark.usefixtures("no_hub")
def test_a_dry_run_shows_what_codes_would_publish_and_without_a_type_they_are_refused(crh, tmp_path):
    write_codes(tmp_path, ["/home/ada/a.png"])
    name = "ada/codes-with-a-name-that-is-longer-than-the-table-of-their-files"
    output = done(crh("push", tmp_path, name, "--type", "dataset", "--dry-run"))
    for shown in (f"Dataset {name} would have\n", "codes-00000.parquet", "# codes"):
        assert shown in output, shown
    assert "/home/ada" not in output
    crh("index", tmp_path, "--out", tmp_path / "codes.crh")
    for source in (tmp_path, tmp_path / "codes.crh"):
        said = refusal(crh("push", source, "ada/codes", "--dry-run"))
        assert f"`type` must be 'dataset', or `space` be given, to push the codes in '{source}'." in said


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize(("revision", "named"), [("sha256:0123456789abcdef", False), ("0123abc", True)])
def test_a_folder_that_is_gone_is_no_model_on_the_hub(crh, revision, named, tmp_path):
    write_codes(tmp_path, ["/home/ada/a.png"], {"num_bits": "16", "model": "runs/cars", "revision": revision})
    assert ("runs/cars" in done(crh("push", tmp_path, "ada/codes", "--type", "dataset", "--dry-run"))) is named


@pytest.mark.usefixtures("no_hub")
def test_a_backbone_in_a_folder_is_no_model_on_the_hub(crh, tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    AutoModel.from_config(tiny_backbone("vit")).save_pretrained("models/vit")
    CRHModel.from_backbone("models/vit", num_labels=3, num_bits=16).save_pretrained("mine")
    ViTImageProcessor().save_pretrained("mine")
    monkeypatch.chdir("/")
    assert "models/vit" not in done(crh("push", tmp_path / "mine", "ada/cars", "--dry-run"))


@pytest.mark.parametrize(
    ("paths", "published"),
    [
        (["/data/ada/cars/a/1.png", "/data/ada/cars/b/c/2.png"], ["a/1.png", "b/c/2.png"]),
        (["/data/ada/cars/1.png"], ["1.png"]),
        (["/home/ada/1.png", "/home/bob/2.png"], ["1.png", "2.png"]),
        (["row 0", "/data/ada/cars/1.png", "b.png"], ["row 0", "1.png", "b.png"]),
        (["row 7 of /data/ada/a/x.csv", "row 0 of /data/ada/y.npy"], ["row 7 of a/x.csv", "row 0 of y.npy"]),
        (["row 7 of /data/x.csv", "row 0 of org/photos"], ["row 7 of x.csv", "row 0 of org/photos"]),
        (["zip://a.png::/data/ada/b.zip", "zip://z::file:///data/ada/c/d"], ["zip://a.png::b.zip", "zip://z::c/d"]),
        (["file:///data/ada/x.png", "/data/ada/a::b/../c/y.png"], ["x.png", "c/y.png"]),
        (["http://ada:pw@host/x.png?key=ada#ada", "s3://bucket/y.png"], ["http://host/x.png", "s3://bucket/y.png"]),
        (["zip://x.png::https://ada@host/y.zip?ada"], ["zip://x.png::https://host/y.zip"]),
    ],
)
def test_paths_are_cut_to_what_lies_below_the_folder(paths, published, tmp_path):
    folder = write_codes(tmp_path / "codes", paths)
    _, rows = write_public_codes(folder, tmp_path, None)
    table, local = pq.read_table(tmp_path / "codes-00000.parquet"), pq.read_table(folder / "codes-00000.parquet")
    assert (table["path"].to_pylist(), rows) == (published, len(paths))
    for name in ("id", "code", "label"):
        assert table[name].to_pylist() == local[name].to_pylist()
    assert b"ada" not in (tmp_path / "codes-00000.parquet").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.append_column("email", [["ada@example.org"]]), "`crh encode` wrote"),
        (lambda table: table.set_column(1, "path", [[1]]), "`crh encode` wrote"),
        (lambda table: table.set_column(1, "path", pa.nulls(1, pa.string())), "a path in every row, but a row"),
        (lambda table: table.replace_schema_metadata({"num_bits": "16.0"}), "`crh encode` wrote"),
        (lambda table: table.append_column("id", [[1]]), "names that differ"),
    ],
    ids=["column", "path", "no path", "num_bits", "double"],
)
def test_no_column_that_crh_encode_does_not_write_is_published(change, message, tmp_path):
    folder = write_codes(tmp_path / "codes", ["a.png"])
    pq.write_table(change(pq.read_table(folder / "codes-00000.parquet")), folder / "codes-00000.parquet")
    with pytest.raises(ValueError, match=f"`codes` must .*{message}"):
        write_public_codes(folder, tmp_path, None)


@pytest.mark.parametrize(
    ("named", "given", "published"),
    [
        *(("/home/ada/run", None, None), ("cars", None, None), ("org/cars", None, b"org/cars")),
        ("/home/ada/run", "org/cars", b"org/cars"),
    ],
)
def test_only_a_model_on_the_hub_is_named(named, given, published, tmp_path):
    folder = write_codes(tmp_path / "codes", ["row 0"], {"num_bits": "16", "model": named})
    schema, _ = write_public_codes(folder, tmp_path, given)
    assert schema.metadata.get(b"model") == published


def test_a_wrong_argument_is_an_error(tmp_path):
    folder = write_codes(tmp_path / "codes", ["row 0"])
    with pytest.raises(ValueError, match="`repo_id` must be a name such as 'org/name', but got 'a b'"):
        push_codes(folder, "a b")
    with pytest.raises(ValueError, match="`model` must be the id of a model on the Hub"):
        push_codes(folder, "org/name", model="/home/ada/run")


@pytest.mark.parametrize("content", [None, b"no parquet", {"other": "16"}])
def test_what_crh_encode_did_not_write_is_refused(content, tmp_path):
    if isinstance(content, dict):
        write_codes(tmp_path, ["row 0"], content)
    elif content is not None:
        Path(tmp_path, "codes-00000.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"`codes` must be a .*(holds some|can be read|`crh encode` wrote), but"):
        push_codes(tmp_path, "org/name")


def test_shards_are_cut_below_the_folder_of_them_all(tmp_path):
    shards = open_shards(tmp_path / "codes")
    shards.write(0, [Row(0, "/data/ada/cars/a/1.png", None, None)], packed(0))
    shards.write(1, [], packed(), [(3, BadRow("/data/ada/cars/cut.png", "cut"))])
    shards.write(2, [Row(6, "/data/ada/cars/b/2.png", None, None)], packed(6))
    with pytest.raises(ValueError, match="`codes` must be complete"):
        push_codes(tmp_path / "codes", "org/name")
    shards.complete()
    (tmp_path / "public").mkdir()
    schema, rows = write_public_codes(tmp_path / "codes", tmp_path / "public", None)
    tables = [pq.read_table(file) for file in sorted((tmp_path / "public").iterdir())]
    assert [table["path"].to_pylist() for table in tables] == [["a/1.png"], [], ["b/2.png"]]
    assert (rows, schema.metadata) == (2, {b"num_bits": b"16", b"dtype": b"float32", b"model": b"runs/a"})
    assert all(b"ada" not in file.read_bytes() for file in (tmp_path / "public").iterdir())


def test_shards_of_two_models_or_with_other_columns_are_errors(tmp_path):
    write_codes(tmp_path, ["row 0"])
    other = pq.read_table(tmp_path / "codes-00000.parquet").drop_columns("label")
    pq.write_table(other, tmp_path / "codes-00001.parquet")
    with pytest.raises(ValueError, match="`codes` must be files with the same columns"):
        push_codes(tmp_path, "org/name")
    pq.write_table(other.replace_schema_metadata({"model": "b", "num_bits": "16"}), tmp_path / "codes-00001.parquet")
    with pytest.raises(ValueError, match="`codes` must be codes of one model"):
        push_codes(tmp_path, "org/name")
