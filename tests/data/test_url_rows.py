import csv
import os
import shutil
import socket
import tempfile

import pytest
from datasets import Audio, Dataset, Image
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from tiny_data import sound, sound_bytes, write_pictures

from modeling_crh.data import load_splits, open_source, prepare_dataset
from modeling_crh.data.rows import Rows, read_value
from modeling_crh.data.stored import Stored
from modeling_crh.data.table_readers import DatasetReader
from modeling_crh.data.tables import Part
from modeling_crh.encoding import Encoder, labelled_dataset
from modeling_crh.encoding.encode import encode_source
from modeling_crh.search.queries import find_queries
from modeling_crh.training.chosen_recipe import options_of_run
from modeling_crh.training.recipe import Recipe

REFUSED = r"URLs in rows are read only with `--allow-urls` \(`allow_urls=\.\.\.`\), which must be 'all' or name their h"


def write_table(path, values, labels="ab", column="image"):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[column, "label"], *zip(values, labels * len(values), strict=False)])
    return path


@pytest.fixture
def linked(server, tmp_path):
    """A table of the URLs of 24 pictures, and of one that is not there."""
    files = write_pictures(tmp_path, 8)
    urls = [f"{server.url}/{file.relative_to(tmp_path)}" for file in files]
    return write_table(tmp_path / "rows.csv", [*urls[:5], f"{server.url}/none.png", *urls[5:]])


@pytest.fixture
def pictures(tmp_path):
    return list(map(str, write_pictures(tmp_path / "images", 8)))


@pytest.fixture(scope="module")
def encoder(tiny_checkpoint):
    return Encoder.load(tiny_checkpoint)


@pytest.fixture
def encode(encoder, tmp_path):
    """Encode a source into a folder of its own."""

    def run(source, skip_bad=True):
        folder = tempfile.mkdtemp(dir=tmp_path)
        return encode_source(encoder, source, folder, model_name="tiny", skip_bad=skip_bad)

    return run


@pytest.mark.parametrize("skip_bad", [True, False])
@pytest.mark.parametrize("form", ["table", "images", "bytes", "structs"])
def test_a_url_in_a_row_ends_the_run_unless_urls_are_allowed_however_bad_rows_are_treated(
    form, skip_bad, tmp_path, server, encode
):
    urls = [f"{server.url}/{number}.png" for number in range(20)]
    source = write_table(tmp_path / "rows.csv", urls)
    if form != "table":  # text in the place of bytes is no way around
        cells = [{"bytes": url, "path": None} if form == "bytes" else {"bytes": None, "path": url} for url in urls]
        source = Dataset.from_dict({"image": cells, "label": ["a", "b"] * 10})
    if form == "images":
        source = source.cast_column("image", Image())
    if form != "bytes":  # which the type of images makes real bytes
        with pytest.raises(ValueError, match=REFUSED):
            load_splits(source, skip_bad=skip_bad)
    with pytest.raises(ValueError, match=REFUSED):
        encode(open_source(source), skip_bad=skip_bad)
    assert server.asked == []


def test_allowed_urls_are_read_once_and_those_that_cannot_be_are_bad_rows(linked, server, encoder, encode, tmp_path):
    with pytest.raises(ValueError, match=r"none\.png is not: the server answered 404; `--skip-bad`"):
        load_splits(linked, allow_urls="127.0.0.1")
    server.asked.clear()
    loaded = load_splits(linked, allow_urls="127.0.0.1", skip_bad=True)
    (bad,) = loaded.bad_rows
    assert (bad.path, bad.reason) == (f"{server.url}/none.png", "the server answered 404")
    items = labelled_dataset(loaded.splits["train"], encoder.processor)
    assert len([items[row] for row in range(len(items))]) == len(loaded.splits["train"])
    assert len(server.asked) == len(set(server.asked)) == 25
    for split in loaded.splits.values():
        for cell in split.cast_column("image", Image(decode=False))["image"]:
            assert cell["bytes"] == (tmp_path / "/".join(cell["path"].split("/")[3:])).read_bytes()
        assert split.features["image"] == Image()
    encoded = encode(open_source(linked, allow_urls="127.0.0.1"))
    assert (encoded.items, len(encoded.left_out)) == (24, 1)


class Hub(MemoryFileSystem):
    """The files of data sets on the Hub."""

    cachable = False
    protocol = "hf"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("hf:/"))


def test_a_dataset_that_is_streamed_from_the_hub_reads_its_own_files_and_no_others(monkeypatch, png):
    monkeypatch.setitem(_registry, "hf", Hub)
    monkeypatch.setattr(Hub, "store", {})
    Hub().pipe({f"/datasets/org/{name}@1/a.png": png(9) for name in ("photos", "photos2")})
    own, other = (f"hf://datasets/org/{name}@1/a.png" for name in ("photos", "photos2"))

    def read(url):
        part = Part(Rows([DatasetReader(Dataset.from_dict({"image": [url]}), "org/photos")]), lambda: None)
        stored = Stored("org/photos", "", {"all": part}, "hf://datasets/org/photos@")
        monkeypatch.setattr("modeling_crh.data.stored._open_hub", lambda *_: stored)
        (row,) = open_source("org/photos").rows()
        return read_value("image", row.value, row.path)

    assert read(own).shape == (3, 8, 8)
    for url in (other, f"http://127.0.0.1/a.png::{own}", "http://127.0.0.1/a.png"):
        with pytest.raises(ValueError, match=REFUSED):
            read(url)
    assert read(f"simplecache::{own}").reason.startswith("its scheme must be http, https, ")


def test_a_dataset_is_prepared_by_the_same_rule(linked, encoder):
    rows = Dataset.from_csv(str(linked))
    rows = rows.select([row for row in range(len(rows)) if row != 5])
    with pytest.raises(ValueError, match=REFUSED):
        labelled_dataset(prepare_dataset(rows), encoder.processor)
    assert len(labelled_dataset(prepare_dataset(rows, allow_urls="127.0.0.1"), encoder.processor)) == 24
    with pytest.raises(ValueError, match="`allow_urls` must be 'all' or hosts"):
        prepare_dataset(rows, allow_urls="a b")


def test_urls_of_sounds_obey_the_same_rule(server, tmp_path):
    urls = []
    for number in range(24):
        (tmp_path / f"{number}.wav").write_bytes(sound_bytes(sound(number % 2, number)))
        urls.append(f"{server.url}/{number}.wav")
    table = write_table(tmp_path / "rows.csv", urls, column="audio")
    with pytest.raises(ValueError, match=REFUSED):
        load_splits(table, skip_bad=True)
    split = load_splits(table, allow_urls="all,127.0.0.1").splits["train"]
    assert split.features["audio"] == Audio(decode=False)
    assert all(cell["bytes"] for cell in split["audio"])


def test_a_row_of_a_private_address_is_a_bad_row_where_all_public_ones_are_allowed(pictures, server, tmp_path):
    table = write_table(tmp_path / "rows.csv", [*pictures, f"{server.url}/a.png", "http://169.254.169.254/latest"])
    bad = load_splits(table, allow_urls="all", skip_bad=True).bad_rows
    assert bad[0].reason == "its server has the address 127.0.0.1, which is not public"
    assert "169.254.169.254" in bad[1].path
    assert server.asked == []


@pytest.mark.parametrize("hosts", ["", "a,,b", "http://a.example", "a b", "a/b"])
def test_hosts_are_names_separated_by_commas(hosts, linked):
    with pytest.raises(ValueError, match="`allow_urls` must be 'all' or hosts separated by commas, but got"):
        open_source(linked, allow_urls=hosts)


@pytest.mark.parametrize("url", ["s3://", "gs://", "zip://", "zip://a.png", "zip://a.png::rows.csv"])
def test_a_url_of_a_store_or_an_archive_ends_no_run_in_a_traceback(url, pictures, tmp_path, crh, tiny_checkpoint):
    table = write_table(tmp_path / "rows.csv", [*pictures, url])
    for command in (
        ["encode", tiny_checkpoint, table, "--out", tmp_path / "codes"],
        ["evaluate", tiny_checkpoint, "--dataset", table],
    ):
        for options in ((), ("--allow-urls", "all")):
            code, _, errors = crh(*command, "--skip-bad", *options)
            assert "Traceback" not in errors
            assert code == (0 if options and url.startswith("zip") else 2)
            if not options:
                assert "Error: URLs in rows are read only with `--allow-urls`" in errors


def test_pipes_sockets_and_devices_in_a_table_are_bad_rows_and_no_run_waits_for_them(
    pictures, tmp_path, monkeypatch, encoder, encode
):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.png")
    os.symlink("pipe.png", "link.png")
    strange = ["pipe.png", "link.png", "socket.png", "/dev/zero", "/dev/stdin"]
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind("socket.png")
        table = write_table(tmp_path / "rows.csv", [*pictures, *strange])
        rows = Dataset.from_csv(str(table))
        rows = rows.map(lambda row: row | {"image": os.path.join(tmp_path, row["image"])})
        images = rows.cast_column("image", Image())
        for form in (table, rows, images):
            reasons = [bad.reason for bad in load_splits(form, skip_bad=True).bad_rows]
            assert reasons[:4] == ["it is a pipe, socket or device"] * 4
            assert encode(open_source(form)).items == 24
    with pytest.raises(ValueError, match="it is a pipe, socket or device"):
        labelled_dataset(prepare_dataset(images), encoder.processor)[24]


def test_a_query_that_is_a_table_obeys_the_rule_and_asks_once(linked, server, tmp_path):
    reason = r"Every row must be readable, but .*none\.png is not: the server answered 404\.$"
    for allowed, message in (({}, REFUSED), ({"allow_urls": "127.0.0.1"}, reason)):
        with pytest.raises(ValueError, match=message):
            find_queries([str(linked)], 16, **allowed)
    content = (tmp_path / "cat" / "00.png").read_bytes()
    (tmp_path / "none.png").write_bytes(content)
    server.asked.clear()
    found = find_queries([str(linked)], 16, allow_urls="127.0.0.1")
    assert (found[5].name, found[5].value) == (f"{server.url}/none.png", content)
    assert len(server.asked) == 25


def test_the_run_of_a_stranger_allows_no_urls(linked, server, tmp_path, crh, tiny_checkpoint):
    run = shutil.copytree(tiny_checkpoint, tmp_path / "run" / "model").parent
    recipe = {"dataset": str(linked), "backbone": "org/vit", "allow_urls": "127.0.0.1", "skip_bad": True}
    (run / "recipe.yaml").write_text(Recipe.from_dict(recipe).dump())
    for given in ({"dataset": str(linked)}, {"dataset": "other.csv"}, {}):
        for columns_only in (True, False):
            assert "allow_urls" not in options_of_run(str(run), given, columns_only=columns_only)
    for command in (["evaluate", run], ["encode", run, linked, "--out", tmp_path / "codes"]):
        code, _, errors = crh(*command)
        assert (code, server.asked) == (2, []), command
        assert "Error: URLs in rows are read only with `--allow-urls`" in errors
    assert crh(*command, "--allow-urls", "127.0.0.1")[0] == 0
