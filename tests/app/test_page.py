import gradio as gr
import pytest

from modeling_crh.app.search_page import build_page
from modeling_crh.app.server import serving
from modeling_crh.search import HammingIndex, read_index
from modeling_crh.search.lance_index import LanceIndex


def test_a_page_of_one_item_can_be_built(index, checkpoint, tmp_path):
    HammingIndex(index.packed[:1], model=checkpoint).save(tmp_path / "index")
    assert isinstance(build_page(tmp_path / "index", checkpoint), gr.Blocks)


def test_a_table_is_read_into_memory(index, checkpoint, tmp_path):
    labels, paths = (index.items.table[name] for name in ("label", "path"))
    LanceIndex.create(tmp_path / "items.lance", index.packed, labels=labels, paths=paths, model=checkpoint)
    loaded = read_index(tmp_path / "items.lance")
    assert (loaded.packed == index.packed).all()
    assert loaded.records(range(60)) == index.records(range(60))
    assert isinstance(build_page(str(tmp_path / "items.lance"), checkpoint), gr.Blocks)


def test_pictures_come_from_one_place(index_path, checkpoint, image_root):
    with pytest.raises(ValueError, match="`image_root` must be left out with `pictures`, but both are given"):
        build_page(index_path, checkpoint, image_root=image_root, pictures="pictures.bin")


def test_it_listens_to_this_machine_alone(address, monkeypatch):
    assert address.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(
    ("host", "message"),
    [("300.1.1.1", "`host` must be an address of this machine, but got '300.1.1.1'"), ("192.0.2.1", "`host` must be")],
)
def test_an_address_of_another_machine_is_refused(host, message):
    with pytest.raises(ValueError, match=message), serving(gr.Blocks(), host):
        pass


def test_a_port_that_is_taken_is_refused(address):
    port = int(address.rstrip("/").rpartition(":")[2])
    with pytest.raises(ValueError, match=f"`port` must be free, but got {port}"), serving(gr.Blocks(), None, port):
        pass
