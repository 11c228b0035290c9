import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tiny_shards import open_shards, packed
from transformers import AutoModel, ViTImageProcessor

from modeling_crh import CRHModel
from modeling_crh.data import BadRow, Row
from modeling_crh.hub.published_codes import push_codes, write_public_codes


def write_codes(folder, paths, metadata=None):
    folder.mkdir(exist_ok=True)
    metadata = {"num_bits": "16", "model": "/home/ada/run"} if metadata is None else metadata
    schema = pa.schema(
        [("id", pa.int64()), ("path", pa.string()), ("code", pa.binary(2)), ("label", pa.string())], metadata=metadata
    )
    rows = [list(range(len(paths))), paths, [bytes([row, 255]) for row in range(len(paths))], ["a"] * len(paths)]
    columns = [pa.array(column, field.type) for column, field in zip(rows, schema, strict=True)]
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), folder / "codes-00000.parquet")
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
    code, output, errors = crh("push", run, "ada/cars", "--license", "mit", "--dry-run")
    assert code == 0, errors
    for shown in ("Model ada/cars would have", "model.safetensors", "modeling_crh.py", "# cars", "license: mit"):
        assert shown in output, shown
    assert "learning_rate: 0.25" in output
    for hidden in ("of-ada", "contact_sheet"):
        assert hidden not in output, hidden
    assert "contact_sheet.png" in crh("push", run, "ada/cars", "--with-pictures", "--dry-run")[1]


@pytest.mark.usefixtures("no_hub")
def test_an_example_for_the_widget_is_published_only_when_given(crh, tiny_checkpoint, text_checkpoint, image_folder):
    example = image_folder / "dark" / "00.png"
    code, output, errors = crh("push", tiny_checkpoint, "ada/cars", "--example", example, "--dry-run")
    assert code == 0, errors
    for shown in ("example.png", "widget:", "- src: example.png"):
        assert shown in output, shown
    assert "widget" not in crh("push", tiny_checkpoint, "ada/cars", "--dry-run")[1]
    for options, message in (
        ([text_checkpoint, "ada/texts"], "`example` must be left out for a model that reads `input_ids`."),
        ([tiny_checkpoint, "ada/codes", "--type", "dataset"], "`example` must be given with a model only"),
    ):
        code, output, errors = crh("push", *options, "--example", example, "--dry-run")
        assert (code, message in errors) == (2, True), errors


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("metadata", ["license: [", "- mit", "license: !!python/object/apply:os.system [x]"])
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_card_of_a_person_with_damaged_metadata_ends_a_push_before_it_begins(
    metadata, options, crh, tiny_checkpoint, tmp_path
):
    run = shutil.copytree(tiny_checkpoint, tmp_path / "run")
    (run / "README.md").write_text(f"---\n{metadata}\n---\nMy cars.\n")
    code, _, errors = crh("push", run, "ada/cars", *options)
    assert code == 2
    assert "Error: `README.md` must begin with a mapping in YAML or none, but does not: " in errors


@pytest.mark.usefixtures("no_hub")
def test_a_dry_run_shows_what_codes_would_publish(crh, tmp_path):
    write_codes(tmp_path, ["/home/ada/a.png"])
    name = "ada/codes-with-a-name-that-is-longer-than-the-table-of-their-files"
    code, output, errors = crh("push", tmp_path, name, "--type", "dataset", "--dry-run")
    assert code == 0, errors
    for shown in (f"Dataset {name} would have\n", "codes-00000.parquet", "# codes"):
        assert shown in output, shown
    assert "/home/ada" not in output


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize(("revision", "named"), [("sha256:0123456789abcdef", False), ("0123abc", True)])
def test_a_folder_that_is_gone_is_no_model_on_the_hub(crh, revision, named, tmp_path):
    write_codes(tmp_path, ["/home/ada/a.png"], {"num_bits": "16", "model": "runs/cars", "revision": revision})
    code, output, errors = crh("push", tmp_path, "ada/codes", "--type", "dataset", "--dry-run")
    assert code == 0, errors
    assert ("runs/cars" in output) is named


@pytest.mark.usefixtures("no_hub")
def test_a_backbone_in_a_folder_is_no_model_on_the_hub(crh, tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    AutoModel.from_config(tiny_backbone("vit")).save_pretrained("models/vit")
    CRHModel.from_backbone("models/vit", num_labels=3, num_bits=16).save_pretrained("mine")
    ViTImageProcessor().save_pretrained("mine")
    monkeypatch.chdir("/")
    code, output, errors = crh("push", tmp_path / "mine", "ada/cars", "--dry-run")
    assert code == 0, errors
    assert "models/vit" not in output


@pytest.mark.usefixtures("no_hub")
def test_codes_that_are_pushed_as_a_model_are_told_their_type(crh, tmp_path):
    write_codes(tmp_path, ["/home/ada/a.png"])
    crh("index", tmp_path, "--out", tmp_path / "codes.crh")
    for source in (tmp_path, tmp_path / "codes.crh"):
        code, _, errors = crh("push", source, "ada/codes", "--dry-run")
        assert code == 2
        assert f"`type` must be 'dataset', or `space` be given, to push the codes in '{source}'." in errors


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


def test_codes_without_a_path_in_every_row_are_refused(tmp_path):
    folder = write_codes(tmp_path / "codes", ["a.png", None])
    with pytest.raises(ValueError, match=r"`codes` must have a path in every row, but a row of '.*' has none"):
        write_public_codes(folder, tmp_path, None)


@pytest.mark.parametrize("change", ["column", "path", "num_bits", "double"])
def test_no_column_that_crh_encode_does_not_write_is_published(change, tmp_path):
    folder = write_codes(tmp_path / "codes", ["a.png"])
    table = pq.read_table(folder / "codes-00000.parquet")
    table = {
        "column": lambda: table.append_column("email", [["ada@example.org"]]),
        "path": lambda: table.set_column(1, "path", [[1]]),
        "num_bits": lambda: table.replace_schema_metadata({"num_bits": "16.0"}),
        "double": lambda: table.append_column("id", [[1]]),
    }[change]()
    pq.write_table(table, folder / "codes-00000.parquet")
    with pytest.raises(ValueError, match=r"`codes` must .*(`crh encode` wrote|names that differ), but"):
        write_public_codes(folder, tmp_path, None)


@pytest.mark.parametrize(
    ("named", "given", "published"),
    [
        ("/home/ada/run", None, None),
        ("cars", None, None),
        ("org/cars", None, b"org/cars"),
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
